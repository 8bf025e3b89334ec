package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/deputy-id/deputy/identity"
)

// The frame of a line, in the order in which it stands there.
const (
	partPrev = `{"prev":"`
	partSeq  = `","seq":`
	partNode = `,"node":`
	partTime = `,"time":"`
	partKind = `","kind":"`
	partHash = `,"hash":"`
	partEnd  = `"}`

	hexLength  = 2 * sha256.Size
	timeLength = len("2006-01-02T15:04:05.000Z")
	tailLength = len(partHash) + hexLength + len(partEnd) // what is not hashed
)

// frame is what every line has. Its slices lie in the line.
type frame struct {
	prev, hash Hash
	sequence   uint64
	node       []byte // as a JSON string, with its quotes
	time       []byte // RFC 3339
	kind       []byte
	content    []byte // what hash is the hash of
}

// parseFrame reads a line without its newline. It takes the one spelling that is written and nothing else, but
// doesn't look at the members behind the kind and computes no hash.
func parseFrame(line []byte) (f frame, err error) {
	malformed := func(what string) (frame, error) {
		return frame{}, fmt.Errorf("it is no record: %s", what)
	}
	if len(line) >= MaxLine {
		return malformed("it is too long")
	}
	rest, ok := bytes.CutPrefix(line, []byte(partPrev))
	if !ok || len(rest) < hexLength {
		return malformed(`it doesn't begin with "prev"`)
	}
	if f.prev, ok = parseHash(rest[:hexLength]); !ok {
		return malformed(`"prev" is no hash`)
	}
	if rest, ok = bytes.CutPrefix(rest[hexLength:], []byte(partSeq)); !ok {
		return malformed(`"seq" doesn't follow "prev"`)
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	if f.sequence, err = strconv.ParseUint(string(rest[:digits]), 10, 64); err != nil || rest[0] == '0' {
		return malformed(`"seq" is no number`)
	}
	if rest, ok = bytes.CutPrefix(rest[digits:], []byte(partNode)); !ok {
		return malformed(`"node" doesn't follow "seq"`)
	}
	end := bytes.Index(rest, []byte(partTime))
	if end < 0 {
		return malformed(`"time" is missing`)
	}
	f.node, rest = rest[:end], rest[end+len(partTime):]
	if len(rest) < timeLength {
		return malformed(`"time" is no time`)
	}
	f.time = rest[:timeLength]
	if _, ok := parseInstant(f.time); !ok {
		return malformed(`"time" is no time`)
	}
	if rest, ok = bytes.CutPrefix(rest[timeLength:], []byte(partKind)); !ok {
		return malformed(`"kind" doesn't follow "time"`)
	}
	if end = bytes.IndexByte(rest, '"'); end < 0 {
		return malformed(`"kind" has no end`)
	}
	f.kind, rest = rest[:end], rest[end+1:]
	if len(rest) < tailLength {
		return malformed(`"hash" is missing`)
	}
	tail := rest[len(rest)-tailLength:]
	if !bytes.HasPrefix(tail, []byte(partHash)) || !bytes.HasSuffix(tail, []byte(partEnd)) {
		return malformed(`it doesn't end with "hash"`)
	}
	if f.hash, ok = parseHash(tail[len(partHash) : len(partHash)+hexLength]); !ok {
		return malformed(`"hash" is no hash`)
	}
	f.content = line[:len(line)-tailLength]
	return f, nil
}

// instant of the record, or zero where it is no time.
func (f *frame) instant() identity.Instant {
	at, _ := parseInstant(f.time)
	return at
}

// intact reports whether the content gives the hash.
func (f *frame) intact() bool { return sha256.Sum256(f.content) == f.hash }

// cutLine takes the first line off and reads its frame.
func cutLine(lines []byte) (line, rest []byte, f frame, err error) {
	end := bytes.IndexByte(lines, '\n')
	if end < 0 {
		return nil, nil, frame{}, errors.New("the line has no end")
	}
	f, err = parseFrame(lines[:end])
	return lines[:end], lines[end+1:], f, err
}

// Entry is a record as it stands in a log.
type Entry struct {
	Prev     Hash   `json:"prev"`
	Sequence uint64 `json:"seq"`
	Node     string `json:"node"`
	Record          // of a record that the log wrote about itself only Time and Kind are set; see Line
	Hash     Hash   `json:"hash"`

	// Line is the JSON as it was written, without the newline. Its hash is over exactly these bytes.
	Line []byte `json:"-"`
}

// ParseEntry reads a line, as it stands in a segment or was exported by a sink, and checks that its content gives
// its hash. It keeps the line.
func ParseEntry(line []byte) (Entry, error) {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	f, err := parseFrame(line)
	if err != nil {
		return Entry{}, err
	}
	if !f.intact() {
		return Entry{}, fmt.Errorf("record %d: its content doesn't give its hash", f.sequence)
	}
	return decodeEntry(line)
}

func decodeEntry(line []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("reading an audit record: %w", err)
	}
	e.Line = line
	return e, nil
}

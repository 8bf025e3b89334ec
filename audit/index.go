package audit

import (
	"bytes"

	"github.com/deputy-id/deputy/identity"
)

// An index says of each block of a segment from when its records are, and which values can't be in it, so that a
// question for one session reads a few blocks and not all. It is made from the lines alone and can be made again.

const (
	blockBytes   = 128 << 10 // about 190 records
	bloomWords   = 128       // 8,192 bits a block: 600 values are missed once in 250 times
	bloomProbes  = 4
	maxLineIndex = 64 // values that are taken from one record
)

// bloom is a set that may contain more than was added, and never less.
type bloom [bloomWords]uint64

// key is a value of a member that is looked for.
type key uint64

// keyOf hashes both. It is the same in every process, as indexes are kept in files; whoever picks values that collide
// makes a question read a block too many.
func keyOf[T string | []byte](member string, value T) key {
	return key(mix(mix(0x9e3779b97f4a7c15, member), value))
}

func mix[T string | []byte](h uint64, text T) uint64 {
	const prime = 0xff51afd7ed558ccd
	h = (h ^ uint64(len(text))) * prime
	for len(text) >= 8 {
		h ^= uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
			uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
		h *= prime
		h ^= h >> 32
		text = text[8:]
	}
	for i := 0; i < len(text); i++ {
		h = (h ^ uint64(text[i])) * prime
	}
	return h ^ h>>32
}

func (b *bloom) add(k key) {
	low, high := uint32(k), uint32(k>>32)|1
	for i := range uint32(bloomProbes) {
		bit := (low + i*high) % (bloomWords * 64)
		b[bit/64] |= 1 << (bit % 64)
	}
}

func (b *bloom) mayHold(k key) bool {
	low, high := uint32(k), uint32(k>>32)|1
	for i := range uint32(bloomProbes) {
		bit := (low + i*high) % (bloomWords * 64)
		if b[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

// block is a run of whole lines.
type block struct {
	offset   int64
	size     int64
	first    uint64 // sequence
	last     uint64
	from, to identity.Instant // of the earliest and the latest record
	values   bloom
}

// full reports whether the next line begins another block. It depends on the lines alone, however they came.
func (b *block) full() bool { return b.size >= blockBytes }

// index of one segment.
type index struct {
	blocks []block
	size   int64 // of the lines that are in it
	head   Hash  // of the last of them
}

// extend takes whole lines. It returns how many bytes it took before a line that it can't read.
func (x *index) extend(lines []byte) (taken int64, err error) {
	for len(lines) > 0 {
		line, rest, f, err := cutLine(lines)
		if err != nil {
			return taken, err
		}
		x.add(line, &f)
		taken += int64(len(line) + 1)
		lines = rest
	}
	return taken, nil
}

func (x *index) add(line []byte, f *frame) {
	at := f.instant()
	if n := len(x.blocks); n == 0 || x.blocks[n-1].full() {
		x.blocks = append(x.blocks, block{offset: x.size, first: f.sequence, from: at, to: at})
	}
	b := &x.blocks[len(x.blocks)-1]
	length := int64(len(line) + 1)
	b.size += length
	b.last = f.sequence
	b.from, b.to = min(b.from, at), max(b.to, at)
	x.size += length
	x.head = f.hash
	if !Kind(f.kind).own() {
		eachValue(line, f, func(member string, value []byte) { b.values.add(keyOf(member, value)) })
	}
}

// indexed returns the name of a member that questions are asked by, without making a string of it.
func indexed(name []byte) (string, bool) {
	switch string(name) {
	case "kind":
		return "kind", true
	case "agent":
		return "agent", true
	case "principal":
		return "principal", true
	case "session":
		return "session", true
	case "tool":
		return "tool", true
	case "policies":
		return "policies", true
	case "monitored":
		return "monitored", true
	case "delegation":
		return "delegation", true
	case "approval":
		return "approval", true
	case "credential":
		return "credential", true
	case "application":
		return "application", true
	case "target":
		return "target", true
	case "source_ip":
		return "source_ip", true
	case "request_id":
		return "request_id", true
	case "trace_id":
		return "trace_id", true
	}
	return "", false
}

// eachValue calls yield with the values of the indexed members, as they are spelt in the line, without quotes. Of
// agents in a chain it takes each, and of a list each entry.
func eachValue(line []byte, f *frame, yield func(member string, value []byte)) {
	rest := f.content[bytes.Index(f.content, []byte(partTime))+1:]
	for n := 0; len(rest) > 0 && n < maxLineIndex; n++ {
		name, value, after, ok := nextMember(rest)
		if !ok {
			return
		}
		rest = after
		switch {
		case string(name) == "chain":
			eachString(value, func(member, s []byte) {
				switch string(member) {
				case "agent":
					yield("agent", s)
				case "delegation":
					yield("delegation", s)
				}
			})
		case value[0] == '[':
			if member, ok := indexed(name); ok {
				eachString(value, func(_, s []byte) { yield(member, s) })
			}
		case value[0] == '"':
			if member, ok := indexed(name); ok && len(value) > 2 {
				yield(member, value[1:len(value)-1])
			}
		}
	}
}

// nextMember takes `"name":value` and the comma behind it off the front. It relies on how lines are written: no
// spaces, and a quotation mark inside a string is escaped by a backslash.
func nextMember(rest []byte) (name, value, after []byte, ok bool) {
	if len(rest) < 4 || rest[0] != '"' {
		return nil, nil, nil, false
	}
	end := bytes.IndexByte(rest[1:], '"')
	if end < 0 || len(rest) < end+4 || rest[end+2] != ':' {
		return nil, nil, nil, false
	}
	name, rest = rest[1:end+1], rest[end+3:]
	if len(rest) > 0 && rest[0] == '"' { // as most are
		n := stringLength(rest)
		switch {
		case n == 0:
			return nil, nil, nil, false
		case n == len(rest):
			return name, rest, nil, true
		case rest[n] == ',':
			return name, rest[:n], rest[n+1:], true
		}
		return nil, nil, nil, false
	}
	depth := 0
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '"':
			skip := stringLength(rest[i:])
			if skip == 0 {
				return nil, nil, nil, false
			}
			i += skip - 1
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case ',':
			if depth == 0 {
				return name, rest[:i], rest[i+1:], i > 0
			}
		}
	}
	return name, rest, nil, len(rest) > 0
}

// stringLength is that of the JSON string at the front, with its quotes, or 0.
func stringLength(s []byte) int {
	end := bytes.IndexByte(s[1:], '"') + 1
	if end > 0 && bytes.IndexByte(s[1:end], '\\') < 0 {
		return end + 1
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// eachString yields the strings of an array, each with the name of the member that it is the value of, if any.
func eachString(array []byte, yield func(member, s []byte)) {
	var member []byte
	for i := 0; i < len(array); i++ {
		if array[i] != '"' {
			continue
		}
		n := stringLength(array[i:])
		if n == 0 {
			return
		}
		s := array[i+1 : i+n-1]
		i += n - 1
		if i+1 < len(array) && array[i+1] == ':' {
			member = s
			continue
		}
		yield(member, s)
		member = nil
	}
}

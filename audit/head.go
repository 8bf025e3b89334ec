package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/deputy-id/deputy/identity"
)

// Names of the sealed head beside the segments.
const (
	headFile  = "head"
	headDraft = "head.new"  // becomes the head by being renamed; a crash may leave one, which says nothing
	headLost  = "head.lost" // an operator's word that the log is to go on though it doesn't reach its head
)

// sealedHead is the node's signature over how far its log is on the disk: at least to record Through, whose hash is
// Head. A chain alone doesn't show that whole records were cut off at its end; this does, without anybody else's help.
type sealedHead struct {
	Node    string           `json:"node"`
	Log     string           `json:"log"`
	Through uint64           `json:"through"` // 0: the log is about to be begun
	Head    Hash             `json:"head"`
	Closed  bool             `json:"closed"` // the log ends there: nothing was written until the next head was
	Time    identity.Instant `json:"time"`

	Signature []byte `json:"signature"`
}

// maxHead is above the size of any head.
const maxHead = 1024

// headPurpose keeps the signature from being taken for one over anything else, a checkpoint above all.
const headPurpose = "deputy audit head v1\n"

// appendMessage appends what is signed: lines of text, so that a shell can make them again.
func (h *sealedHead) appendMessage(b []byte) []byte {
	b = append(b, headPurpose...)
	b = append(append(append(b, "node "...), h.Node...), '\n')
	b = append(append(append(b, "log "...), h.Log...), '\n')
	b = append(strconv.AppendUint(append(b, "through "...), h.Through, 10), '\n')
	b = append(appendHash(append(b, "head "...), &h.Head), '\n')
	b = append(strconv.AppendBool(append(b, "closed "...), h.Closed), '\n')
	b = append(append(append(b, "time "...), h.Time.String()...), '\n')
	return b
}

// appendFile appends the file that holds the head, in the one spelling that is read.
func (h *sealedHead) appendFile(dst []byte) []byte {
	e := encoder{b: dst}
	e.text(`{"node":`, h.Node)
	e.text(`,"log":`, h.Log)
	e.number(`,"through":`, h.Through)
	e.b = appendHash(append(e.b, `,"head":"`...), &h.Head)
	e.b = strconv.AppendBool(append(e.b, `","closed":`...), h.Closed)
	e.b = append(e.b, `,"time":`...)
	e.instant(h.Time)
	e.b = append(e.b, `,"signature":"`...)
	e.b = base64.StdEncoding.AppendEncode(e.b, h.Signature)
	return append(e.b, "\"}\n"...)
}

// parseHead takes the one spelling only: then no byte of the file can be changed without breaking the signature.
func parseHead(text []byte) (*sealedHead, error) {
	h := &sealedHead{}
	switch {
	case len(text) > maxHead:
		return nil, errors.New("it is too long")
	case json.Unmarshal(text, h) != nil, !bytes.Equal(text, h.appendFile(nil)):
		return nil, errors.New("it isn't written as heads are")
	case identity.ValidName(h.Node) != nil || !validLogID(h.Log):
		return nil, errors.New("it doesn't say of which log it is")
	case len(h.Signature) != ed25519.SignatureSize:
		return nil, fmt.Errorf("its signature has %d bytes", len(h.Signature))
	}
	return h, nil
}

// verify holds the head to a public key.
func (h *sealedHead) verify(key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, h.appendMessage(nil), h.Signature) {
		return ErrSignature
	}
	return nil
}

// readHead returns nil and no error where there is no such file. What can't be a head wraps errBadHead.
func readHead(folder fs.FS, name string) (*sealedHead, error) {
	f, err := folder.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(f, maxHead+1))
	if err != nil {
		return nil, err
	}
	h, err := parseHead(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadHead, err)
	}
	return h, nil
}

var errBadHead = errors.New("the file is no sealed head")

// replaceHead puts another head in place of the one that is there. After a crash at any moment the name holds one or
// the other in whole: the new one is on the disk before it gets the name. With lasting, it is the new one once the call has
// returned; without, a power cut may bring an older one back until the file system has written the folder by itself, as ext4
// and XFS do at the next sync of the log. Unlike privatefile.Replace it may be called tens of times a second for years, so it has
// one draft, which crashes can't multiply.
func replaceHead(dir string, text []byte, lasting bool) error {
	draft := filepath.Join(dir, headDraft)
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(draft, filepath.Join(dir, headFile)); err != nil || !lasting {
		return err
	}
	return syncFolder(dir)
}

// recordsWere words what happened to the records after one up to another.
func recordsWere(after, through uint64) string {
	if through == after+1 {
		return fmt.Sprintf("record %d was", through)
	}
	return fmt.Sprintf("records %d to %d were", after+1, through)
}

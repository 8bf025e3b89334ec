package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/deputy-id/deputy/identity"
)

// Signer is the key that a node is known by.
type Signer interface {
	Sign(message []byte) []byte // Ed25519, RFC 8032
	Public() ed25519.PublicKey
}

// Checkpoint is a node's signature over everything that its log held: Head is the hash of record Through and thereby
// of all before it. Root is the Merkle root over the records First to Through, by which one of them can be proven
// without the others. The checkpoint itself stands in the log as record Through + 1.
type Checkpoint struct {
	Node      string           `json:"node"`
	Log       string           `json:"log"` // told apart from other logs that the node may have begun
	First     uint64           `json:"first"`
	Through   uint64           `json:"through"`
	Head      Hash             `json:"head"`
	Root      Hash             `json:"root"`
	Time      identity.Instant `json:"time"` // never before that of an earlier checkpoint, even if the clock went back
	Signature []byte           `json:"signature"`
}

// maxCheckpointRecords is how many a checkpoint may cover: a proof reads as many.
const maxCheckpointRecords = 1 << 16

// checkpointPurpose keeps the signature from being taken for one over anything else.
const checkpointPurpose = "deputy audit checkpoint v1\n"

// ErrSignature says that a checkpoint isn't the node's.
var ErrSignature = errors.New("the signature is not by the node's key")

// message is what is signed: lines of text, so that a shell can make them again.
func (c *Checkpoint) message() []byte {
	b := make([]byte, 0, 512)
	b = append(b, checkpointPurpose...)
	b = append(append(append(b, "node "...), c.Node...), '\n')
	b = append(append(append(b, "log "...), c.Log...), '\n')
	b = append(strconv.AppendUint(append(b, "first "...), c.First, 10), '\n')
	b = append(strconv.AppendUint(append(b, "through "...), c.Through, 10), '\n')
	b = append(appendHash(append(b, "head "...), &c.Head), '\n')
	b = append(appendHash(append(b, "root "...), &c.Root), '\n')
	b = append(append(append(b, "time "...), c.Time.String()...), '\n')
	return b
}

// Verify holds the checkpoint to a public key. An error wraps ErrSignature.
func (c *Checkpoint) Verify(key ed25519.PublicKey) error {
	if err := c.plausible(); err != nil {
		return fmt.Errorf("checkpoint of node %.64q: %w: %w", c.Node, ErrSignature, err)
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, c.message(), c.Signature) {
		return fmt.Errorf("checkpoint of node %s through record %d: %w", c.Node, c.Through, ErrSignature)
	}
	return nil
}

// plausible refuses what no node writes, before its parts are put into lines.
func (c *Checkpoint) plausible() error {
	switch {
	case identity.ValidName(c.Node) != nil:
		return errors.New("the name is no node's")
	case !validLogID(c.Log):
		return errors.New("the log's id is none")
	case c.First == 0 || c.Through < c.First || c.Through-c.First >= maxCheckpointRecords:
		return fmt.Errorf("it covers the records %d to %d", c.First, c.Through)
	case len(c.Signature) != ed25519.SignatureSize:
		return fmt.Errorf("the signature has %d bytes", len(c.Signature))
	}
	return nil
}

// same reports whether two checkpoints say the same, whenever it was said.
func (c *Checkpoint) same(d *Checkpoint) bool {
	return c.Node == d.Node && c.Log == d.Log && c.Through == d.Through && c.Head == d.Head
}

// checkpoint signs where the chain stands. There is at least one record since the last.
func (c *chain) checkpoint(node, log string, at identity.Instant, signer Signer) (Checkpoint, error) {
	made := Checkpoint{
		Node: node, Log: log, First: c.sequence - uint64(c.tree.size) + 1, Through: c.sequence,
		Head: c.head, Root: c.tree.root(), Time: at,
	}
	made.Signature = signer.Sign(made.message())
	if len(made.Signature) != ed25519.SignatureSize {
		return made, fmt.Errorf("signing a checkpoint: the signer gave %d bytes instead of %d", len(made.Signature), ed25519.SignatureSize)
	}
	return made, nil
}

// appendCheckpointBody appends the members of a checkpoint's record. Head is the record's "prev" as well; it is
// repeated so that the members are those of a checkpoint as nodes exchange it.
func appendCheckpointBody(dst []byte, c *Checkpoint) []byte {
	e := encoder{b: dst}
	e.head(c.Time, KindCheckpoint)
	e.text(`,"log":`, c.Log)
	e.number(`,"first":`, c.First)
	e.number(`,"through":`, c.Through)
	e.b = appendHash(append(e.b, `,"head":"`...), &c.Head)
	e.b = appendHash(append(e.b, `","root":"`...), &c.Root)
	e.b = append(e.b, `","signature":"`...)
	e.b = base64.StdEncoding.AppendEncode(e.b, c.Signature)
	e.b = append(e.b, '"')
	return e.b
}

// readCheckpoint decodes a checkpoint's record and checks that it speaks of the record before itself. It takes the one
// spelling only: then nothing in the record can be changed without breaking the signature.
func readCheckpoint(line []byte, f *frame) (Checkpoint, error) {
	var c Checkpoint
	if err := unmarshalLine(line, &c); err != nil {
		return c, err
	}
	if c.Head != f.prev || c.Through != f.sequence-1 {
		return c, errors.New("the checkpoint doesn't speak of the record before it")
	}
	if body := f.content[bytes.Index(f.content, []byte(partTime))+1:]; !bytes.Equal(body, appendCheckpointBody(nil, &c)) {
		return c, errors.New("the checkpoint isn't written as checkpoints are")
	}
	return c, nil
}

// header is the first record of a segment.
type header struct {
	Format int              `json:"format"`
	Log    string           `json:"log"`
	Began  identity.Instant `json:"began"`  // when the log was begun
	Key    []byte           `json:"key"`    // the node's public key, to say which; verifying takes keys from elsewhere
	Sealed bool             `json:"sealed"` // the log has a sealed head; those of older programs have none
}

// segmentFormat is raised when older programs can't read a segment any more.
const segmentFormat = 1

func appendHeaderBody(dst []byte, at identity.Instant, h *header) []byte {
	e := encoder{b: dst}
	e.head(at, KindSegment)
	e.number(`,"format":`, uint64(h.Format))
	e.text(`,"log":`, h.Log)
	e.b = append(e.b, `,"began":`...)
	e.instant(h.Began)
	e.b = append(e.b, `,"key":"`...)
	e.b = base64.StdEncoding.AppendEncode(e.b, h.Key)
	e.b = append(e.b, '"')
	if h.Sealed {
		e.b = append(e.b, `,"sealed":true`...)
	}
	return e.b
}

func readHeader(line []byte, f *frame) (header, error) {
	var h header
	if !bytes.Equal(f.kind, []byte(KindSegment)) {
		return h, fmt.Errorf("the first record of a segment is of kind segment, this one is of kind %.40q", f.kind)
	}
	if err := unmarshalLine(line, &h); err != nil {
		return h, err
	}
	if h.Format != segmentFormat {
		return h, fmt.Errorf("the segment has format %d, this program knows %d: a newer version has written it, use that one", h.Format, segmentFormat)
	}
	if !validLogID(h.Log) {
		return h, errors.New("the segment doesn't say which log it is of")
	}
	return h, nil
}

package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/deputy-id/deputy/identity"
)

// An entry of the log is an envelope of four bytes, then two msgpack values with nothing after them:
//
//	version (1) | flags (1) | type (2, big endian) | header | body
//
// The envelope is all that a build must understand of a command that it does not know.
const (
	envelopeVersion = 1
	envelopeBytes   = 4
	flagIgnorable   = 1 << 0
)

// handle is the one configuration of msgpack: one spelling per value, and a field that this build does not
// know is an error, as skipping it would make replicas differ.
var handle = func() *codec.MsgpackHandle {
	h := new(codec.MsgpackHandle)
	h.WriteExt = true // strings and bytes are told apart
	h.Canonical = true
	h.ErrorIfNoField = true
	h.ErrorIfNoArrayExpand = true
	h.MapValueReset = true
	h.SliceElementReset = true
	h.MaxDepth = 32
	return h
}()

// header is what every command carries beside its body.
type header struct {
	ID          []byte           `codec:"i,omitempty"`
	Fingerprint []byte           `codec:"f,omitempty"`
	ClientKey   bool             `codec:"k,omitempty"`
	Time        identity.Instant `codec:"t"`
	By          string           `codec:"b,omitempty"`
}

// item is one body of a Batch.
type item struct {
	Type Type   `codec:"t"`
	Body []byte `codec:"b"`
}

// UnknownError says that a command was made by a newer build.
type UnknownError struct {
	Type      Type
	Ignorable bool // it may be skipped; otherwise the node must not go on
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("command type %d is unknown to this build of deputy", uint16(e.Type))
}

// errTrailing is wrapped where bytes follow the value.
var errTrailing = errors.New("bytes follow the last value")

// Encode writes a command as a log entry. It refuses one over MaxCommandBytes with CodeTooLarge.
func Encode(c Command) ([]byte, error) {
	if c.Body == nil {
		return nil, errors.New("encoding a command without a body")
	}
	t := c.Body.Type()
	entry := make([]byte, envelopeBytes, 512)
	entry[0] = envelopeVersion
	if t.ignorable() {
		entry[1] |= flagIgnorable
	}
	binary.BigEndian.PutUint16(entry[2:], uint16(t))

	h := header{ClientKey: c.ClientKey, Time: c.Time, By: c.By}
	if c.ID != (CommandID{}) {
		h.ID = c.ID[:]
	}
	if c.Fingerprint != ([16]byte{}) {
		h.Fingerprint = c.Fingerprint[:]
	}
	entry, err := appendBody(appendHeader(entry, &h), c.Body)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", t, err)
	}
	if len(entry) > MaxCommandBytes {
		return nil, identity.Errorf(identity.CodeTooLarge, "the %s command takes %d bytes; at most %d are allowed", t, len(entry), MaxCommandBytes)
	}
	return entry, nil
}

// Decode reads a log entry. It accepts nothing that it does not understand in full: the error is an
// *UnknownError for a newer envelope or type, and any other error means that the entry is corrupt or has
// a field of a newer build. Errors never quote the entry.
func Decode(entry []byte) (Command, error) { return decode(entry, new(shared)) }

// decode is Decode that shares texts with what was decoded before.
func decode(entry []byte, s *shared) (Command, error) {
	if len(entry) > MaxCommandBytes {
		return Command{}, fmt.Errorf("entry has %d bytes; at most %d are allowed", len(entry), MaxCommandBytes)
	}
	if len(entry) < envelopeBytes {
		return Command{}, fmt.Errorf("entry has %d bytes, which is less than an envelope", len(entry))
	}
	version, flags, t := entry[0], entry[1], Type(binary.BigEndian.Uint16(entry[2:]))
	if version != envelopeVersion || flags&^flagIgnorable != 0 {
		// Not ignorable, whatever the flag: it may mean another thing there, or the entry may be garbage.
		return Command{}, &UnknownError{Type: t}
	}
	var h header
	n, ok := quickHeader(entry[envelopeBytes:], &h, s)
	if !ok {
		var slow header // apart from h, which need not leave the stack
		var err error
		if n, err = unmarshalPrefix(entry[envelopeBytes:], &slow); err != nil {
			return Command{}, fmt.Errorf("decoding the header of %s: %w", t, err)
		}
		h = slow
	}
	c := Command{ClientKey: h.ClientKey, Time: h.Time, By: h.By}
	if err := copyExactly(c.ID[:], h.ID); err != nil {
		return Command{}, fmt.Errorf("decoding the id of %s: %w", t, err)
	}
	if err := copyExactly(c.Fingerprint[:], h.Fingerprint); err != nil {
		return Command{}, fmt.Errorf("decoding the fingerprint of %s: %w", t, err)
	}
	var err error
	c.Body, err = decodeBody(t, entry[envelopeBytes+n:], s)
	if err == nil {
		return c, nil
	}
	var unknown *UnknownError
	if errors.As(err, &unknown) {
		// A known type with an unknown item inside is not ignorable, whatever its own flag says.
		unknown.Ignorable = flags&flagIgnorable != 0 && unknown.Type == t
		return Command{}, unknown
	}
	return Command{}, fmt.Errorf("decoding %s: %w", t, err)
}

func copyExactly(dst, src []byte) error {
	if len(src) != 0 && len(src) != len(dst) {
		return fmt.Errorf("has %d bytes; it must have %d", len(src), len(dst))
	}
	copy(dst, src)
	return nil
}

func appendBody(dst []byte, b Body) ([]byte, error) {
	if b, ok := b.(CreateDelegation); ok {
		return appendCreateDelegation(dst, &b), nil
	}
	data, err := encodeBody(b)
	return append(dst, data...), err
}

func encodeBody(b Body) ([]byte, error) {
	var batch Batch
	switch b := b.(type) {
	case CreateDelegation:
		return appendCreateDelegation(nil, &b), nil
	case Batch:
		batch = b
	case *Batch:
		batch = *b
	default:
		return marshal(b)
	}
	if len(batch.Bodies) > MaxBatch {
		return nil, identity.Errorf(identity.CodeTooLarge, "a batch of %d commands; at most %d are allowed", len(batch.Bodies), MaxBatch)
	}
	items := make([]item, len(batch.Bodies))
	for i, body := range batch.Bodies {
		if body == nil || body.Type() == TypeBatch {
			return nil, identity.Errorf(identity.CodeInvalid, "item %d of the batch is no command that may stand in a batch", i)
		}
		data, err := encodeBody(body)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		items[i] = item{Type: body.Type(), Body: data}
	}
	return marshal(items)
}

func decodeBatch(data []byte, s *shared) (Body, error) {
	items, err := strict[[]item](data)
	if err != nil {
		return nil, err
	}
	if len(items) > MaxBatch {
		return nil, fmt.Errorf("a batch of %d commands; at most %d are allowed", len(items), MaxBatch)
	}
	batch := Batch{Bodies: make([]Body, len(items))}
	for i, it := range items {
		if it.Type == TypeBatch {
			return nil, fmt.Errorf("item %d is a batch within a batch", i)
		}
		if batch.Bodies[i], err = decodeBody(it.Type, it.Body, s); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return batch, nil
}

// strict reads one value that takes all of data.
func strict[T any](data []byte) (v T, err error) {
	n, err := unmarshalPrefix(data, &v)
	if err == nil && n != len(data) {
		err = errTrailing
	}
	return v, err
}

func unmarshalPrefix(data []byte, v any) (read int, err error) {
	d := codec.NewDecoderBytes(data, handle)
	if err := d.Decode(v); err != nil {
		// The library's own message may quote what it read, and entries hold hashes of secrets.
		return 0, errors.New("not the msgpack of the fields that this build knows")
	}
	return d.NumBytesRead(), nil
}

func marshal(v any) (data []byte, err error) {
	return data, codec.NewEncoderBytes(&data, handle).Encode(v)
}

package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// envelope carries a client's write from the node it was sent to, to the leader. It holds the client's own
// credential and body, so that the leader authenticates the client as if it had asked there; what the origin
// adds is only what a retry must not change.
type envelope struct {
	method, uri string
	source      netip.Addr
	command     fsm.CommandID // drawn once at the origin and kept through retries
	seed        [32]byte      // of the ids and secrets that the write makes, for the same reason
	patience    time.Duration // how long the client still waits for a fence; 0: it does not ask for one
	headers     []header
	body        []byte
}

type header struct{ name, value string }

// forwardedHeaders are what a route may look at; nothing else is passed on.
var forwardedHeaders = []string{
	fasthttp.HeaderAuthorization, fasthttp.HeaderContentType,
	wire.HeaderRequestID, wire.HeaderIdempotencyKey, wire.HeaderIndex,
}

// answeredHeaders are what a leader's answer brings back.
var answeredHeaders = []string{
	fasthttp.HeaderContentType, fasthttp.HeaderLocation, fasthttp.HeaderCacheControl, fasthttp.HeaderWWWAuthenticate,
	fasthttp.HeaderAllow, fasthttp.HeaderRetryAfter, wire.HeaderIndex, wire.HeaderFresh, wire.HeaderFenced,
}

const (
	envelopeVersion = 3
	// maxEnvelope bounds both directions: a body, the headers, and room for their lengths.
	maxEnvelope = maxBody + 2*readBufferSize
	// maxEnvelopeHeaders bounds the list of headers in either direction.
	maxEnvelopeHeaders = 16
)

var errEnvelope = errors.New("the forwarded message is not well-formed")

func (e *envelope) encode() []byte {
	b := make([]byte, 0, len(e.body)+len(e.uri)+1024)
	b = append(b, envelopeVersion)
	b = appendField(b, e.method)
	b = appendField(b, e.uri)
	source, _ := e.source.MarshalBinary() // an Addr always marshals
	b = appendField(b, source)
	b = append(b, e.command[:]...)
	b = append(b, e.seed[:]...)
	b = binary.AppendUvarint(b, uint64(e.patience.Milliseconds()))
	b = appendHeaders(b, e.headers)
	return appendField(b, e.body)
}

func decodeEnvelope(data []byte) (*envelope, error) {
	if len(data) > maxEnvelope {
		return nil, errEnvelope
	}
	r := fieldReader{rest: data}
	if version := r.bytes(1); r.bad || version[0] != envelopeVersion {
		return nil, errEnvelope
	}
	e := &envelope{method: string(r.field()), uri: string(r.field())}
	if err := e.source.UnmarshalBinary(r.field()); err != nil {
		return nil, fmt.Errorf("%w: %w", errEnvelope, err)
	}
	copy(e.command[:], r.bytes(len(e.command)))
	copy(e.seed[:], r.bytes(len(e.seed)))
	patience := r.uvarint()
	if patience > maxTimeout*1000 {
		return nil, errEnvelope
	}
	e.patience = time.Duration(patience) * time.Millisecond
	e.headers = r.headers()
	e.body = r.field()
	if r.bad || len(r.rest) > 0 {
		return nil, errEnvelope
	}
	return e, nil
}

// reply is the leader's answer to an envelope. Code is the error's code, so that the origin knows what may be
// tried again without reading the body.
type reply struct {
	status  int
	decided bool // the log has spoken, not only the leader's view of it
	code    identity.Code
	headers []header
	body    []byte
}

func (p *reply) encode() []byte {
	b := make([]byte, 0, len(p.body)+512)
	b = append(b, envelopeVersion)
	b = binary.AppendUvarint(b, uint64(p.status))
	b = append(b, 0)
	if p.decided {
		b[len(b)-1] = 1
	}
	b = appendField(b, p.code)
	b = appendHeaders(b, p.headers)
	return appendField(b, p.body)
}

func decodeReply(data []byte) (*reply, error) {
	r := fieldReader{rest: data}
	if version := r.bytes(1); r.bad || version[0] != envelopeVersion {
		return nil, errEnvelope
	}
	p := &reply{status: int(r.uvarint()), decided: r.uvarint() == 1, code: identity.Code(r.field()), headers: r.headers(), body: r.field()}
	if r.bad || len(r.rest) > 0 || p.status < 200 || p.status > 599 {
		return nil, errEnvelope
	}
	return p, nil
}

func appendField[T ~string | ~[]byte](b []byte, field T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

func appendHeaders(b []byte, headers []header) []byte {
	b = binary.AppendUvarint(b, uint64(len(headers)))
	for _, h := range headers {
		b = appendField(appendField(b, h.name), h.value)
	}
	return b
}

// fieldReader takes length-prefixed fields off a message. Once something is wrong it stays bad and gives empty
// fields, so that the check comes once, at the end.
type fieldReader struct {
	rest []byte
	bad  bool
}

func (r *fieldReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *fieldReader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *fieldReader) field() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	return r.bytes(int(n))
}

func (r *fieldReader) headers() []header {
	n := r.uvarint()
	if n > maxEnvelopeHeaders {
		r.bad, r.rest = true, nil
		return nil
	}
	var headers []header
	for range n {
		headers = append(headers, header{string(r.field()), string(r.field())})
	}
	return headers
}

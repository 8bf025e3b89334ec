package load

import (
	"bytes"
	"errors"
	"fmt"
)

// Target is the plainest of plans: the same few requests over and over.
type Target struct {
	Addresses []string // host:port; connections are spread over them
	Requests  [][]byte // whole requests; each connection goes round them, from its own starting point
	Expect    []byte   // an answer of 200 holds it; nil accepts any

	// Fresh, if set, makes each request anew, for one address: what it proves is good only once. Requests then only say
	// how large they are.
	Fresh func(address string) []byte
}

func (t *Target) validate() error {
	if len(t.Addresses) == 0 || len(t.Requests) == 0 {
		return errors.New("a target lacks an address or a request")
	}
	for _, r := range t.Requests {
		if len(r) == 0 || len(r) > MaxRequestBytes {
			return fmt.Errorf("a request has %d bytes; it must have 1 to %d", len(r), MaxRequestBytes)
		}
	}
	return nil
}

// Plan makes a plan of the target.
func (t Target) Plan() (Plan, error) {
	if err := t.validate(); err != nil {
		return Plan{}, err
	}
	p := Plan{Operations: []string{"request"}}
	for _, address := range t.Addresses {
		p.Nodes = append(p.Nodes, Node{Address: address})
	}
	p.Work = func(connection, node int) Work {
		return &rounds{target: &t, address: t.Addresses[node], next: connection % len(t.Requests)}
	}
	return p, nil
}

// rounds is the work of a target's connection.
type rounds struct {
	target  *Target
	address string
	next    int
}

func (r *rounds) Next(call *Call) {
	if r.target.Fresh != nil {
		call.Request = r.target.Fresh(r.address)
		return
	}
	call.Request = r.target.Requests[r.next]
	if r.next++; r.next == len(r.target.Requests) {
		r.next = 0
	}
}

func (r *rounds) Judge(_ *Call, status int, body []byte) Failure {
	switch {
	case status != 200:
		return StatusFailure(status)
	case !bytes.Contains(body, r.target.Expect):
		return FailureAnswer
	}
	return ""
}

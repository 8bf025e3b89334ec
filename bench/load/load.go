// Package load asks servers for something, at a rate or as fast as they answer, and keeps account of it.
//
// The open model is the one that says something about latency: when a request is due follows from the shape of the
// load alone, and its latency counts from then, so that whatever waits behind a slow answer waits in the figures as
// well. Requests are dealt out to the nodes in turn before anybody knows which of them is slow, and each node has its
// own connections and its own queue: a node that stalls can't hand its share to the others.
//
// In the closed model a connection asks again once it has its answer. That finds throughput, and hides waiting.
//
// The generator shares its machine with what it measures, so an exchange costs it two system calls and no allocation. On Linux
// an open load of plain connections is carried by one thread for two CPUs, with no goroutine to wake up for each answer.
package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of a load.
const (
	MaxConnections = 4096
	MaxBacklog     = 1 << 20 // requests that are due and wait for a connection
	MaxOperations  = 16
)

// Node is one server that is asked.
type Node struct {
	Address string      // host:port
	TLS     *tls.Config // nil: plain HTTP
}

// Call is one request under way.
type Call struct {
	N         uint64 // the how-manieth it is of the run; of a closed loop only different for each call
	Operation int    // which of the plan's operations
	Node      int    // which of the plan's nodes
	Request   []byte // whole; Work sets it and may use its own buffer again for the next call

	Due time.Time // of an open load
}

// Work makes the requests of one connection and judges their answers. It is used by one goroutine at a time.
type Work interface {
	// Next sets call.Request. The time it takes is not charged to the server.
	Next(call *Call)
	// Judge says what is wrong with an answer, "" for nothing. The body is valid until it returns.
	Judge(call *Call, status int, body []byte) Failure
}

// Plan is what a generator does.
type Plan struct {
	Nodes      []Node
	Operations []string // names; at least one
	// Deal says which operation a call is, by its number; nil: the first. It is called from several goroutines.
	Deal func(n uint64) int
	// Work makes that of one connection.
	Work func(connection, node int) Work
}

func (p *Plan) validate() error {
	switch {
	case len(p.Nodes) == 0:
		return errors.New("a load lacks a node to ask")
	case len(p.Operations) == 0 || len(p.Operations) > MaxOperations:
		return fmt.Errorf("a load has %d operations; it must have 1 to %d", len(p.Operations), MaxOperations)
	case p.Work == nil:
		return errors.New("a load lacks its work")
	}
	if slices.ContainsFunc(p.Nodes, func(n Node) bool { return n.Address == "" }) {
		return errors.New("a node lacks its address")
	}
	return nil
}

func (p *Plan) deal(n uint64) int {
	if p.Deal == nil {
		return 0
	}
	return p.Deal(n)
}

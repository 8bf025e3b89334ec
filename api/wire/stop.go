package wire

import (
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Stop is part of every answer to something that stops something: how far the stop has come.
type Stop struct {
	Committed       bool             `json:"committed" doc:"a quorum has it on disk"`
	Fenced          bool             `json:"fenced" doc:"no node acts any more as if it had not happened; only ever true with wait=fenced"`
	Nodes           []FencedNode     `json:"nodes,omitempty" doc:"with wait=fenced: how each node stands"`
	Denied          *Denied          `json:"denied,omitempty" doc:"with wait=fenced: who denied it before it was committed"`
	ValidatorsUntil identity.Instant `json:"validators_until,omitempty" doc:"once fenced: when services that lease freshness from a node have heard of it as well"`
	OfflineUntil    identity.Instant `json:"offline_until,omitempty" doc:"once fenced: when tokens for services that never ask have ended as well"`
	Detail          string           `json:"detail,omitempty" doc:"what else there is to know"`
}

// Progress is how far the stop has come. It makes every answer that embeds a Stop one that can be asked.
func (s *Stop) Progress() *Stop { return s }

// States of a node in a fence.
const (
	NodeFenced       = "fenced"        // it has acknowledged
	NodeLeaseExpired = "lease-expired" // it may not speak any more until it has caught up
	NodeWaiting      = "waiting"       // neither, so far
)

// FencedNode is one node's part in a fence.
type FencedNode struct {
	ID    string  `json:"id"`
	State string  `json:"state" doc:"fenced, lease-expired or waiting"`
	After float64 `json:"after_ms" doc:"milliseconds from the commit; of a node that is waiting: so far"`
}

// Denied says how far a deny has come that did not wait for the commit.
type Denied struct {
	Nodes int     `json:"nodes" doc:"nodes that have it in their sets"`
	Of    int     `json:"of" doc:"nodes that there are"`
	After float64 `json:"after_ms" doc:"milliseconds until the last of them had it"`
}

// Milliseconds writes a duration as the wire has it, to the microsecond.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

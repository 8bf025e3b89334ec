package faults

import (
	"testing"
)

// strike is what happens to one node.
type strike string

const (
	strikeCut   strike = "cut off"
	strikeDeaf  strike = "deaf"
	strikeMute  strike = "mute"
	strikeLoss  strike = "losing 20 %"
	strikePause strike = "paused"
	strikeKill  strike = "killed"
	strikeStale strike = "restarted while cut off"
)

var strikes = []strike{strikeCut, strikeDeaf, strikeMute, strikeLoss, strikePause, strikeKill, strikeStale}

// lossPercent is the loss that the promises speak of.
const lossPercent = 20

// strike hits a node.
func (w *network) strike(t *testing.T, n *node, how strike) {
	t.Helper()
	switch how {
	case strikeCut:
		w.set(t, n, cutOff)
	case strikeDeaf:
		w.set(t, n, weather{deaf: true})
	case strikeMute:
		w.set(t, n, weather{mute: true})
	case strikeLoss:
		w.set(t, n, weather{loss: lossPercent})
	case strikePause:
		n.pause(t)
	case strikeKill:
		n.kill(t)
	case strikeStale:
		n.kill(t)
		w.set(t, n, cutOff)
		n.launch(t)
	}
}

// reachable reports whether a node that was hit so can serve its clients as if nothing had happened.
func (s strike) reachable() bool { return s == "" || s == strikeLoss }

// wake lets a paused node go on and starts a killed one, which stays cut off.
func (w *network) wake(t *testing.T, n *node, how strike) {
	t.Helper()
	switch how {
	case strikePause:
		n.resume(t)
	case strikeKill:
		w.set(t, n, cutOff)
		n.launch(t)
	}
}

// heal ends the bad weather of a node, and starts it where it ended by itself, as a node does whose disk seems to
// stall. It reports whether that was so.
func (w *network) heal(t *testing.T, n *node) (ended bool) {
	t.Helper()
	w.set(t, n, weather{})
	if n.process == nil {
		n.launch(t)
		return false
	}
	select {
	case <-n.process.exited:
		t.Logf("%s ended by itself: %v\n%s", n.id, n.process.err, n.lastWords())
		n.process = nil
		n.launch(t)
		return true
	default:
		return false
	}
}

package faults

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// action is what one request wanted of an agent.
type action string

const (
	actionCreate   action = "create"
	actionGet      action = "get"
	actionReplace  action = "replace" // PUT
	actionPatch    action = "patch"   // read, merge and write: 409 where somebody else came in between
	actionSuspend  action = "suspend"
	actionActivate action = "activate"
	actionDelete   action = "delete"
)

// wish is the input of an operation of a history.
type wish struct {
	action action
	agent  string
	text   string // the description that create, replace and patch write; every one is unique
}

// outcome is what an answer said.
type outcome string

const (
	outcomeDone    outcome = "done"
	outcomeMissing outcome = "missing" // 404
	outcomeExists  outcome = "exists"  // 409 already-exists
	outcomeChanged outcome = "changed" // 409: somebody else came in between
	outcomeUnknown outcome = "unknown" // no answer, or one that says so: it may take effect, at any time from then on
)

// told is the output of an operation: the outcome, and the agent as the answer showed it.
type told struct {
	outcome outcome
	agent   register
}

// register is the part of an agent that the model follows.
type register struct {
	exists    bool
	text      string
	suspended bool
}

// agentModel is what the admin API promises of one agent to clients that hand the newest X-Deputy-Index on: every
// answer is as if the requests had been served one at a time, each at some moment between its sending and its
// answer.
func agentModel() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			var names []string
			byAgent := map[string][]porcupine.Operation{}
			for _, o := range history {
				name := o.Input.(wish).agent
				if _, ok := byAgent[name]; !ok {
					names = append(names, name)
				}
				byAgent[name] = append(byAgent[name], o)
			}
			var parts [][]porcupine.Operation
			for _, name := range names {
				parts = append(parts, byAgent[name])
			}
			return parts
		},
		Init: func() any { return register{} },
		Step: func(state, input, output any) (bool, any) {
			return allowed(state.(register), input.(wish), output.(told))
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

// allowed reports whether an answer may be given in a state, and the state after it.
func allowed(now register, w wish, got told) (bool, register) {
	if got.outcome == outcomeChanged {
		return w.action == actionPatch || w.action == actionReplace, now
	}
	next, possible := effect(now, w)
	switch got.outcome {
	case outcomeUnknown:
		if possible {
			return true, next
		}
		return true, now
	case outcomeExists:
		return w.action == actionCreate && now.exists, now
	case outcomeMissing:
		return w.action != actionCreate && !now.exists, now
	}
	if w.action == actionDelete {
		return possible, next
	}
	return possible && got.agent == next, next
}

// effect is what becomes of an agent by an action that is done.
func effect(now register, w wish) (next register, possible bool) {
	if w.action == actionCreate {
		return register{exists: true, text: w.text}, !now.exists
	}
	if !now.exists {
		return now, false
	}
	next = now
	switch w.action {
	case actionReplace, actionPatch:
		next.text = w.text
	case actionSuspend:
		next.suspended = true
	case actionActivate:
		next.suspended = false
	case actionDelete:
		next = register{}
	}
	return next, true
}

// history records operations as they are made, by several clients at once.
type history struct {
	mu         sync.Mutex
	began      time.Time
	operations []porcupine.Operation
	unknown    int
	undone     []string // answers that promise that nothing was done, for people who look for a broken promise
}

func newHistory() *history { return &history{began: time.Now()} }

// record adds an operation. A read whose outcome is unknown says nothing and is left out.
func (h *history) record(client int, w wish, call time.Time, got told) {
	back := int64(time.Since(h.began))
	h.mu.Lock()
	defer h.mu.Unlock()
	if got.outcome == outcomeUnknown {
		if w.action == actionGet {
			return
		}
		h.unknown++
		back = math.MaxInt64
	}
	h.operations = append(h.operations, porcupine.Operation{
		ClientId: client, Input: w, Output: got, Call: int64(call.Sub(h.began)), Return: back,
	})
}

// refused notes an answer that promises that nothing was done.
func (h *history) refused(w wish, call time.Time, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.undone = append(h.undone, fmt.Sprintf("%s %s %s: %s, %.3f to %.3f s", w.action, w.agent, w.text, why,
		call.Sub(h.began).Seconds(), time.Since(h.began).Seconds()))
}

// check tells whether the history is one that the model allows.
func (h *history) check(patience time.Duration) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return porcupine.CheckOperationsVerbose(agentModel(), h.operations, patience)
}

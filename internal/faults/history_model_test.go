package faults

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// The judge must know right from wrong before anybody is judged by it.
func TestHistoryModelTellsRightFromWrong(t *testing.T) {
	do := func(call, back int64, a action, text string, got told) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: back, Input: wish{a, "teller", text}, Output: got}
	}
	shows := func(text string, suspended bool) told {
		return told{outcomeDone, register{exists: true, text: text, suspended: suspended}}
	}
	create := do(0, 10, actionCreate, "a", shows("a", false))
	tests := []struct {
		name string
		want porcupine.CheckResult
		rest []porcupine.Operation
	}{
		{"a read sees what was written", porcupine.Ok, []porcupine.Operation{do(11, 12, actionGet, "", shows("a", false))}},
		{"a stale read", porcupine.Illegal, []porcupine.Operation{
			do(11, 20, actionReplace, "b", shows("b", false)), do(21, 22, actionGet, "", shows("a", false)),
		}},
		{"reads that go back while a write is under way", porcupine.Illegal, []porcupine.Operation{
			do(11, 40, actionReplace, "b", shows("b", false)), do(12, 13, actionGet, "", shows("b", false)), do(14, 15, actionGet, "", shows("a", false)),
		}},
		{"a lost suspension", porcupine.Illegal, []porcupine.Operation{
			do(11, 20, actionSuspend, "", shows("a", true)), do(21, 22, actionGet, "", shows("a", false)),
		}},
		{"an update that overwrites a suspension", porcupine.Illegal, []porcupine.Operation{
			do(11, 20, actionSuspend, "", shows("a", true)), do(21, 22, actionPatch, "b", shows("b", false)),
		}},
		{"one that says it is missing while it is there", porcupine.Illegal, []porcupine.Operation{do(11, 12, actionDelete, "", told{outcome: outcomeMissing})}},
		{"a refusal that took effect", porcupine.Illegal, []porcupine.Operation{
			do(11, 12, actionPatch, "b", told{outcome: outcomeChanged}), do(13, 14, actionGet, "", shows("b", false)),
		}},
		{"two that both make it", porcupine.Illegal, []porcupine.Operation{do(11, 12, actionCreate, "b", shows("b", false))}},
		{"an unknown write that shows late", porcupine.Ok, []porcupine.Operation{
			do(11, math.MaxInt64, actionReplace, "b", told{outcome: outcomeUnknown}), do(12, 13, actionGet, "", shows("a", false)),
			do(14, 15, actionGet, "", shows("b", false)),
		}},
		{"an unknown write that never shows", porcupine.Ok, []porcupine.Operation{
			do(11, math.MaxInt64, actionDelete, "", told{outcome: outcomeUnknown}), do(12, 13, actionGet, "", shows("a", false)),
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			all := append([]porcupine.Operation{create}, test.rest...)
			require.Equal(t, test.want, porcupine.CheckOperationsTimeout(agentModel(), all, 0))
		})
	}
}

package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"strconv"
)

// SessionBinding stands for exactly one request for a session: an approval that was given for it covers no other. It is
// about who asks for what in which words, and not about when, from where or with which credential.
func SessionBinding(r *Request) string {
	b := newBinding("session")
	b.add(r.Agent.Name)
	if r.Principal != nil {
		b.add(r.Principal.ID)
	} else {
		b.add("")
	}
	if r.Parent != nil {
		b.add(r.Parent.ID)
	} else {
		b.add("")
	}
	b.add(string(r.Requested))
	audience := slices.Clone(r.Audience)
	slices.Sort(audience)
	for _, wanted := range slices.Compact(audience) {
		b.add(wanted)
	}
	b.add("") // no audience is empty
	b.add(r.TriggerReason)
	b.add(strconv.FormatInt(r.MaxSeconds, 10))
	return b.sum()
}

// ToolBinding stands for exactly one tool call: the same tool and arguments, under the same session. The session's
// principal is a part of it, as whoever decides is shown one: a yes to a call for somebody else is none.
func ToolBinding(r *ToolRequest) string {
	b := newBinding("tool")
	b.add(r.Session.ID)
	b.add(r.Session.Principal)
	b.add(r.Tool.Application)
	b.add(r.Tool.Name)
	b.add(r.ArgumentsHash)
	return b.sum()
}

// DelegationBinding stands for exactly one delegation that a user or a runtime wants to make.
func DelegationBinding(r *DelegationRequest) string {
	b := newBinding("delegation")
	b.add(r.Principal.ID)
	b.add(r.Agent.Name)
	b.add(string(r.Scopes))
	b.add(r.Reason)
	b.add(strconv.FormatInt(r.Seconds, 10))
	b.add(strconv.FormatInt(int64(r.MaxHops), 10))
	return b.sum()
}

// binding hashes texts with their lengths, so that no two lists of texts look alike.
type binding struct{ hash.Hash }

func newBinding(kind string) binding {
	b := binding{sha256.New()}
	b.add(kind)
	return b
}

func (b binding) add(text string) {
	b.Write(strconv.AppendInt(nil, int64(len(text)), 10))
	b.Write([]byte{':'})
	b.Write([]byte(text))
}

func (b binding) sum() string { return hex.EncodeToString(b.Sum(nil)) }

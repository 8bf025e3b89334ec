package audit

import (
	"strconv"
	"unicode/utf8"

	"github.com/deputy-id/deputy/identity"
)

// A line is
//
//	{"prev":"…","seq":N,"node":"…", BODY ,"hash":"…"}
//
// and the body of a record begins with "time" and "kind". Whoever appends encodes the body; the writer, who alone
// knows where the chain stands, puts the rest around it.

// encoder appends members in their fixed order.
type encoder struct {
	b   []byte
	cut bool // something had to be left out
}

// appendBody appends the members of a record, without braces. The nine of every record are always there, so that no
// consumer has to guess what a missing one means.
func appendBody(dst []byte, r *Record, at identity.Instant) []byte {
	e := encoder{b: dst}
	e.head(at, r.Kind)
	e.text(`,"agent":`, r.Agent)
	e.text(`,"principal":`, principalOf(r))
	e.text(`,"session":`, r.Session)
	e.chain(r.Chain)
	e.text(`,"tool":`, r.Tool)
	e.bounded(`,"scope":`, r.Scope, maxScope)
	e.text(`,"decision":`, string(r.Decision))
	e.text(`,"outcome":`, string(outcomeOf(r)))

	e.optional(`,"reason":`, r.Reason)
	e.list(`,"policies":`, r.Policies)
	e.list(`,"monitored":`, r.Monitored)
	e.optional(`,"delegation":`, r.Delegation)
	e.optional(`,"approval":`, r.Approval)
	e.optional(`,"action":`, r.Action)
	e.optional(`,"agent_type":`, string(r.AgentType))
	e.optional(`,"credential":`, r.Credential)
	e.optional(`,"application":`, r.Application)
	e.list(`,"audience":`, r.Audience)
	e.optional(`,"target":`, r.Target)
	e.optional(`,"required_scope":`, r.RequiredScope)
	e.optional(`,"arguments_hash":`, r.ArgumentsHash)
	if r.SourceIP.IsValid() {
		e.b = append(e.b, `,"source_ip":"`...)
		e.b = r.SourceIP.Unmap().WithZone("").AppendTo(e.b)
		e.b = append(e.b, '"')
	}
	e.optional(`,"request_id":`, r.RequestID)
	e.optional(`,"trace_id":`, r.TraceID)
	e.optional(`,"span_id":`, r.SpanID)
	if !r.Expires.IsZero() {
		e.b = append(e.b, `,"expires":`...)
		e.instant(r.Expires)
	}
	if r.Index != 0 {
		e.number(`,"index":`, r.Index)
	}
	e.list(`,"handles":`, r.Handles)
	if r.Detail != "" {
		e.bounded(`,"detail":`, r.Detail, maxDetail)
	}
	if e.cut {
		e.b = append(e.b, `,"cut":true`...)
	}
	return e.b
}

func principalOf(r *Record) string {
	if r.Principal == "" && r.Agent != "" {
		return Autonomous
	}
	return r.Principal
}

func outcomeOf(r *Record) Outcome {
	switch {
	case r.Outcome != "":
		return r.Outcome
	case r.Decision == Allowed:
		return Success
	}
	return Failure
}

// head begins a body.
func (e *encoder) head(at identity.Instant, kind Kind) {
	e.b = append(e.b, `"time":`...)
	e.instant(at)
	e.b = append(e.b, `,"kind":"`...)
	e.b = append(e.b, kind...)
	e.b = append(e.b, '"')
}

func (e *encoder) instant(at identity.Instant) {
	e.b = append(e.b, '"')
	e.b = appendInstant(e.b, at)
	e.b = append(e.b, '"')
}

func (e *encoder) number(member string, n uint64) {
	e.b = append(e.b, member...)
	e.b = strconv.AppendUint(e.b, n, 10)
}

func (e *encoder) text(member, s string) { e.bounded(member, s, maxText) }

func (e *encoder) optional(member, s string) {
	if s != "" {
		e.bounded(member, s, maxText)
	}
}

func (e *encoder) list(member string, list []string) {
	if len(list) == 0 {
		return
	}
	if len(list) > maxEntries {
		list, e.cut = list[:maxEntries], true
	}
	e.b = append(e.b, member...)
	for i, s := range list {
		if i == 0 {
			e.bounded(`[`, s, maxText)
		} else {
			e.bounded(`,`, s, maxText)
		}
	}
	e.b = append(e.b, ']')
}

func (e *encoder) chain(links []Link) {
	if len(links) > maxLinks {
		links, e.cut = links[:maxLinks], true
	}
	e.b = append(e.b, `,"chain":[`...)
	for i := range links {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		member := `{`
		for _, part := range [...]struct{ name, value string }{
			{`"user":`, links[i].User}, {`"agent":`, links[i].Agent}, {`"delegation":`, links[i].Delegation},
		} {
			if part.value == "" {
				continue
			}
			e.b = append(e.b, member...)
			e.bounded(part.name, part.value, maxText)
			member = `,`
		}
		if member == `{` {
			e.b = append(e.b, '{')
		}
		e.b = append(e.b, '}')
	}
	e.b = append(e.b, ']')
}

// bounded appends a member, or what else stands before a value, and s as a JSON string of at most so many bytes
// before escaping.
func (e *encoder) bounded(member, s string, most int) {
	e.b = append(e.b, member...)
	if len(s) > most {
		s, e.cut = cutText(s, most), true
	}
	if len(s) >= shortestSecret {
		if clean, found := redact(s); found {
			s, e.cut = clean, true
		}
	}
	e.b = appendQuoted(e.b, s)
}

// cutText keeps whole characters and marks the cut.
func cutText(s string, most int) string {
	const mark = "…"
	end := most - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

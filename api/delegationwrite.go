package api

import (
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// appendDelegation appends what encodeJSON makes of one, at a tenth of its time: delegations are made by the thousand a
// second.
func appendDelegation(dst []byte, d *wire.Delegation) []byte {
	dst = appendJSONText(append(dst, `{"id":`...), d.ID)
	dst = appendJSONText(append(dst, `,"principal_id":`...), d.PrincipalID)
	dst = appendJSONText(append(dst, `,"agent_id":`...), d.AgentID)
	dst = appendScopes(append(dst, `,"scopes":`...), d.Scopes)
	dst = appendJSONText(append(dst, `,"status":`...), string(d.Status))
	dst = strconv.AppendBool(append(dst, `,"expired":`...), d.Expired)
	dst = appendJSONInstant(append(dst, `,"expires_at":`...), d.ExpiresAt)
	if d.Reason != "" {
		dst = appendJSONText(append(dst, `,"reason":`...), d.Reason)
	}
	if d.Origin != "" {
		dst = appendJSONText(append(dst, `,"origin":`...), d.Origin)
	}
	dst = strconv.AppendInt(append(dst, `,"max_hops":`...), d.MaxHops, 10)
	dst = appendJSONInstant(append(dst, `,"created_at":`...), d.CreatedAt)
	if !d.WithdrawnAt.IsZero() {
		dst = appendJSONInstant(append(dst, `,"withdrawn_at":`...), d.WithdrawnAt)
	}
	dst = strconv.AppendUint(append(dst, `,"revision":`...), d.Revision, 10)
	return append(dst, '}')
}

// appendScopes appends a list. Scopes have no space and need no escape, but for what Scopes.MarshalJSON escapes for HTML.
func appendScopes(dst []byte, scopes identity.Scopes) []byte {
	if strings.ContainsAny(string(scopes), `<>&"\`) {
		return append(dst, encodeJSON(scopes)...)
	}
	dst = append(dst, '[')
	first := true
	for name := range strings.SplitSeq(string(scopes), " ") {
		if name == "" {
			break // there is none
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(append(dst, '"'), name...), '"')
	}
	return append(dst, ']')
}

// appendJSONText is appendJSONString for text that may be anything: what is not plain ASCII is encodeJSON's.
func appendJSONText(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return append(dst, encodeJSON(text)...)
		}
	}
	return append(append(append(dst, '"'), text...), '"')
}

func appendJSONInstant(dst []byte, i identity.Instant) []byte {
	dst = append(dst, '"')
	if !i.IsZero() {
		dst = i.Time().AppendFormat(dst, instantLayout)
	}
	return append(dst, '"')
}

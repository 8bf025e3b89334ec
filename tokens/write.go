package tokens

import (
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// writer builds the payload of one token in room of its own, which stays on the stack of whoever mints. What
// does not fit is dropped and leaves full set.
//
// It writes JSON whose values need no escapes. Everything that reaches a token was held to that when it
// entered the system; the writer looks again, since one quote too many would let a name write claims.
type writer struct {
	room   [maxPayloadBytes]byte
	n      int
	full   bool
	unsafe bool
}

func (w *writer) payload() []byte { return w.room[:w.n] }

// claims writes the payload, in the order that DESIGN.md lists. What the parser would refuse in the session is
// a bug of whoever made it, and is caught here as far as a look at its shape and at the bytes can.
func (w *writer) claims(issuer string, s *identity.Session, handles []identity.Handle) error {
	jti, ok := strings.CutPrefix(s.ID, identity.PrefixSession)
	if !ok || len(s.Chain) == 0 || len(s.Chain) > identity.MaxChain || len(s.Audience) == 0 || len(handles) == 0 || len(handles) > MaxAncestry {
		return identity.Errorf(identity.CodeInternal, "BUG: minting from a session without id, actor, audience or handles, or with too many")
	}
	issued, expires := s.Issued.Unix(), s.Expires.Unix()
	if issued <= 0 || expires <= issued || expires-issued > identity.MaxSessionSeconds {
		return identity.Errorf(identity.CodeInternal, "BUG: minting a token from second %d to second %d", issued, expires)
	}
	actors, subject := s.Chain, s.Principal
	if subject == "" {
		actors, subject = s.Chain[1:], s.Chain[0].Agent
	}
	w.raw(`{"iss":`)
	w.text(issuer)
	w.raw(`,"sub":`)
	w.text(subject)
	w.raw(`,"aud":`)
	w.audience(s.Audience)
	w.raw(`,"client_id":`)
	w.text(s.Actor().Agent)
	if s.Scopes != "" {
		w.raw(`,"scope":`)
		w.spacedText(string(s.Scopes))
	}
	w.raw(`,"iat":`)
	w.integer(issued)
	w.raw(`,"exp":`)
	w.integer(expires)
	w.raw(`,"jti":`)
	w.text(jti)
	w.raw(`,"sid":`)
	w.text(s.ID)
	for i := len(actors) - 1; i >= 0; i-- {
		w.raw(`,"act":{"sub":`)
		w.text(actors[i].Agent)
	}
	for range actors {
		w.raw(`}`)
	}
	w.raw(`,"anc":`)
	for i, handle := range handles {
		w.separator(i)
		w.text(string(handle))
	}
	w.raw(`],"agent_type":`)
	w.text(string(s.AgentType))
	if s.Confirmation != "" {
		if !validKID(s.Confirmation) {
			return identity.Errorf(identity.CodeInternal, "BUG: minting a token bound to what is no thumbprint of a key")
		}
		w.raw(`,"cnf":{"jkt":`)
		w.text(s.Confirmation)
		w.raw(`}`)
	}
	w.raw(`}`)
	if w.unsafe {
		return identity.Errorf(identity.CodeInternal, "BUG: minting a claim that holds a character which JSON would escape")
	}
	return nil
}

// audience writes one as a string and several as an array (RFC 7519 section 4.1.3).
func (w *writer) audience(uris []string) {
	if len(uris) == 1 {
		w.text(uris[0])
		return
	}
	for i, uri := range uris {
		w.separator(i)
		w.text(uri)
	}
	w.raw(`]`)
}

// separator writes what stands before element i of an array.
func (w *writer) separator(i int) {
	if i == 0 {
		w.raw(`[`)
		return
	}
	w.raw(`,`)
}

func (w *writer) raw(s string) {
	n := copy(w.room[w.n:], s)
	w.n += n
	w.full = w.full || n < len(s)
}

func (w *writer) integer(n int64) {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	copied := copy(w.room[w.n:], text)
	w.n += copied
	w.full = w.full || copied < len(text)
}

func (w *writer) text(s string) { w.textFrom('!', s) }

// spacedText is for scopes, the one claim with spaces in it.
func (w *writer) spacedText(s string) { w.textFrom(' ', s) }

func (w *writer) textFrom(least byte, s string) {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < least || c > '~' || c == '"' || c == '\\' {
			w.unsafe = true
		}
	}
	w.raw(`"`)
	w.raw(s)
	w.raw(`"`)
}

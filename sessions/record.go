package sessions

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// record is a session in a shard. It holds no pointer, so that the garbage collector never looks at a million of them:
// texts are in the tables of the shard.
type record struct {
	id, delegation, parent id
	generation             uint64 // of the principal; 0: the principal's handle, if any, is among those of the shape
	links                  [lanes]link
	ends                   uint32 // seconds since the epoch
	shape                  uint32
	principal              uint32 // symbols; 0: none
	reason                 uint32
}

// A record is in the list of each agent of its chain and in that of its principal. A ref names a record and which of
// its links continues the list.
type (
	ref  uint32
	link struct{ before, after ref }
)

const (
	lanePrincipal = identity.MaxChain
	lanes         = identity.MaxChain + 1
	laneBits      = 2
	laneMask      = 1<<laneBits - 1

	_ = uint(1<<laneBits - lanes) // a chain that grows must not outgrow a ref
)

func refOf(slot uint32, lane int) ref { return ref(slot<<laneBits | uint32(lane)) }

func (r ref) slot() uint32 { return uint32(r >> laneBits) }
func (r ref) lane() int    { return int(r & laneMask) }

// draft is a session on its way in, taken apart before any lock is held.
type draft struct {
	session                *identity.Session
	id, delegation, parent id
	generation             uint64
	ends                   uint32
	shape                  []byte // what it has in common with others, as appendShape writes it
}

// prepare reports whether there is a session to remember. Shape is room for its shape, which is returned.
func (d *draft) prepare(s *identity.Session, handles []identity.Handle, key identity.Handle, shape []byte) (_ []byte, ok bool) {
	if d.id, ok = parseID(identity.PrefixSession, s.ID); !ok || len(s.Chain) == 0 || len(s.Chain) > identity.MaxChain {
		return nil, false // none that policy grants
	}
	d.session = s
	d.ends = uint32(min(max(s.Expires.Unix(), 0), math.MaxUint32)) // whole seconds, as the token has it
	shape = binary.AppendUvarint(shape, uint64(len(s.Chain)))
	for i := range s.Chain {
		shape = appendText(shape, s.Chain[i].Agent)
	}
	shape = appendText(shape, s.Scopes)
	shape = binary.AppendUvarint(shape, uint64(len(s.Audience)))
	for _, uri := range s.Audience {
		shape = appendText(shape, uri)
	}
	for _, h := range handles {
		if !d.own(string(h)) {
			shape = appendText(shape, h)
		}
	}
	if key != "" && !slices.Contains(handles, key) { // the parent's may have signed this one as well
		shape = appendText(shape, key)
	}
	return shape, true
}

func appendText[T ~string](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// cutText undoes appendText. The rest shares its bytes with the shape.
func cutText(shape string) (text, rest string) {
	n, rest := cutNumber(shape)
	return rest[:n], rest[n:]
}

func cutNumber(shape string) (n int, rest string) {
	for i := 0; ; i++ {
		n |= int(shape[i]&0x7f) << (7 * i)
		if shape[i] < 0x80 {
			return n, shape[i+1:]
		}
	}
}

// tell adds to an entry what its shape says.
func tell(shape string, e *Entry) {
	n, rest := cutNumber(shape)
	for range n {
		var agent string
		agent, rest = cutText(rest)
		e.Chain = append(e.Chain, agent)
	}
	scopes, rest := cutText(rest)
	e.Scopes = identity.Scopes(scopes)
	n, rest = cutNumber(rest)
	e.Audience = make([]string, n)
	for i := range n {
		e.Audience[i], rest = cutText(rest)
	}
}

// shared appends the handles of a shape.
func shared(shape string, dst []identity.Handle) []identity.Handle {
	n, rest := cutNumber(shape)
	for range n + 1 { // the chain and the scopes
		_, rest = cutText(rest)
	}
	n, rest = cutNumber(rest)
	for range n {
		_, rest = cutText(rest)
	}
	for rest != "" {
		var h string
		h, rest = cutText(rest)
		dst = append(dst, identity.Handle(h))
	}
	return dst
}

// own takes a handle that is kept in the session's own record, as few others have it or none.
func (d *draft) own(h string) (ok bool) {
	s := d.session
	switch {
	case h == s.ID:
		return true
	case s.Delegation != "" && h == s.Delegation:
		d.delegation, ok = parseID(identity.PrefixDelegation, h)
	case d.parent.none() && strings.HasPrefix(h, identity.PrefixSession):
		d.parent, ok = parseID(identity.PrefixSession, h)
	case d.generation == 0 && s.Principal != "":
		d.generation, ok = generationOf(h, s.Principal)
	}
	return ok
}

// generationOf reads the generation of a principal's handle, if that is what h is.
func generationOf(h, principal string) (uint64, bool) {
	const prefix = "usr_"
	if len(h) <= len(prefix)+len(principal)+1 || h[:len(prefix)] != prefix || h[len(prefix):len(prefix)+len(principal)] != principal {
		return 0, false
	}
	digits := h[len(prefix)+len(principal):]
	if digits[0] != '#' || digits[1] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits[1:], 10, 64)
	return n, err == nil
}

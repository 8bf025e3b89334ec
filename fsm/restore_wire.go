package fsm

import (
	"encoding/binary"
	"unique"

	"github.com/deputy-id/deputy/identity"
)

// wireReader reads what the encoder writes of the records that come by the million, at a tenth of the codec's time. It
// knows the spellings that this build writes; where it meets another it gives up, and the codec, which knows all of them
// and says what is wrong, reads the record instead.
type wireReader struct {
	b       []byte
	strange bool
}

func (r *wireReader) give() (none []byte) {
	r.strange, r.b = true, nil
	return nil
}

func (r *wireReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		return r.give()
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *wireReader) byte() byte {
	if len(r.b) == 0 {
		r.give()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// size reads an unsigned number of so many bytes.
func (r *wireReader) size(bytes int) uint64 {
	var word [8]byte
	copy(word[8-bytes:], r.take(bytes))
	return binary.BigEndian.Uint64(word[:])
}

// fields is how many a map has.
func (r *wireReader) fields() int {
	c := r.byte()
	if c&0xf0 != 0x80 {
		r.give()
		return 0
	}
	return int(c & 0x0f)
}

// text is a string, within what is read.
func (r *wireReader) text() []byte {
	switch c := r.byte(); {
	case c&0xe0 == 0xa0:
		return r.take(int(c & 0x1f))
	case c == 0xd9:
		return r.take(int(r.size(1)))
	case c == 0xda:
		return r.take(int(r.size(2)))
	case c == 0xdb:
		return r.take(int(r.size(4)))
	}
	return r.give()
}

func (r *wireReader) binary() []byte {
	if r.byte() != 0xc4 {
		return r.give()
	}
	return r.take(int(r.size(1)))
}

func (r *wireReader) number() int64 {
	switch c := r.byte(); {
	case c < 0x80:
		return int64(c)
	case c >= 0xe0:
		return int64(int8(c))
	case c == 0xcc:
		return int64(r.size(1))
	case c == 0xcd:
		return int64(r.size(2))
	case c == 0xce:
		return int64(r.size(4))
	case c == 0xd0:
		return int64(int8(r.size(1)))
	case c == 0xd1:
		return int64(int16(r.size(2)))
	case c == 0xd2:
		return int64(int32(r.size(4)))
	case c == 0xd3:
		return int64(r.size(8))
	case c == 0xcf:
		if n := r.size(8); n < 1<<63 {
			return int64(n)
		}
	}
	r.give()
	return 0
}

func (r *wireReader) positive() uint64 {
	n := r.number()
	if n < 0 {
		r.give()
	}
	return uint64(n)
}

func (r *wireReader) instant() identity.Instant { return identity.Instant(r.number()) }

func (r *wireReader) bool() bool {
	switch r.byte() {
	case 0xc2:
		return false
	case 0xc3:
		return true
	}
	r.give()
	return false
}

// shared gives texts that come again and again the same bytes, without making a string to look for one.
type shared struct {
	texts   map[string]string
	handles map[string]unique.Handle[string]
}

func (s *shared) text(b []byte) string {
	if text, ok := s.texts[string(b)]; ok {
		return text
	}
	if s.texts == nil || len(s.texts) >= maxTexts {
		s.texts = make(map[string]string)
	}
	text := string(b)
	s.texts[text] = text
	return text
}

func (s *shared) handle(b []byte) unique.Handle[string] {
	if h, ok := s.handles[string(b)]; ok {
		return h
	}
	if s.handles == nil || len(s.handles) >= maxTexts {
		s.handles = make(map[string]unique.Handle[string])
	}
	h := unique.Make(string(b))
	s.handles[h.Value()] = h
	return h
}

// delegation reads a record but for its agent and principal, of which it returns the names, within what is read. It
// reports false where the codec has to.
func (s *shared) delegation(r *wireReader, rec *record) (agent, principal []byte, ok bool) {
	rec.scopes, rec.origin = noText, noText
	for n := r.fields(); n > 0 && !r.strange; n-- {
		switch string(r.text()) {
		case "i":
			if id := r.binary(); len(id) == len(rec.id) {
				copy(rec.id[:], id)
			} else {
				r.give()
			}
		case "a":
			agent = r.text()
		case "p":
			principal = r.text()
		case "s":
			rec.scopes = s.handle(r.text())
		case "o":
			rec.origin = s.handle(r.text())
		case "re":
			rec.reason = s.text(r.text())
		case "ct":
			rec.created = r.instant()
		case "et":
			rec.expires = r.instant()
		case "wt":
			rec.withdrawn = r.instant()
		case "r":
			rec.revision = r.positive()
		case "m":
			rec.made = r.positive()
		case "mh":
			hops := r.positive()
			if hops > 255 {
				r.give()
			}
			rec.maxHops = uint8(hops)
		case "x":
			rec.inactive = r.bool()
		default:
			r.give()
		}
	}
	return agent, principal, !r.strange && len(agent) > 0 && rec.id != [16]byte{}
}

// revocation reads one, and reports false where the codec has to.
func (s *shared) revocation(r *wireReader, rev *identity.Revocation) bool {
	for n := r.fields(); n > 0 && !r.strange; n-- {
		switch string(r.text()) {
		case "h":
			rev.Handle = identity.Handle(r.text())
		case "re":
			rev.Reason = s.text(r.text())
		case "b":
			rev.By = s.text(r.text())
		case "at":
			rev.At = r.instant()
		case "et":
			rev.Expires = r.instant()
		case "ix":
			rev.Index = r.positive()
		default:
			r.give()
		}
	}
	return !r.strange
}

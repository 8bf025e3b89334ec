package fsm

import (
	"encoding/binary"
	"math"

	"github.com/deputy-id/deputy/identity"
)

// The header and the commands that come by the thousand a second are written and read by hand, at a tenth of the codec's
// time. What is written is, byte for byte, what the codec would write. What is read is only that spelling: where an entry
// has another, the codec reads it, which knows all of them and says what is wrong. FuzzQuickReading holds the two together.

// wireWriter appends what the codec would.
type wireWriter struct{ b []byte }

// fields begins a map; it has no more than 15.
func (w *wireWriter) fields(n int) { w.b = append(w.b, 0x80|byte(n)) }

// key is a field's name, of less than 32 bytes.
func (w *wireWriter) key(name string) { w.b = append(append(w.b, 0xa0|byte(len(name))), name...) }

func (w *wireWriter) text(key, text string) {
	w.key(key)
	switch n := len(text); {
	case n < 32:
		w.b = append(w.b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		w.b = append(w.b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, 0xda), uint16(n))
	default:
		w.b = binary.BigEndian.AppendUint32(append(w.b, 0xdb), uint32(n))
	}
	w.b = append(w.b, text...)
}

// bytes are at most 255.
func (w *wireWriter) bytes(key string, data []byte) {
	w.key(key)
	w.b = append(append(w.b, 0xc4, byte(len(data))), data...)
}

func (w *wireWriter) instant(key string, i identity.Instant) {
	w.key(key)
	switch {
	case i > math.MaxInt32 || i < math.MinInt32:
		w.b = binary.BigEndian.AppendUint64(append(w.b, 0xd3), uint64(i))
	case i > math.MaxInt16 || i < math.MinInt16:
		w.b = binary.BigEndian.AppendUint32(append(w.b, 0xd2), uint32(i))
	case i > math.MaxInt8 || i < math.MinInt8:
		w.b = binary.BigEndian.AppendUint16(append(w.b, 0xd1), uint16(i))
	case i < -32:
		w.b = append(w.b, 0xd0, byte(i))
	default:
		w.b = append(w.b, byte(i))
	}
}

func (w *wireWriter) number(key string, n uint64) {
	w.key(key)
	switch {
	case n <= math.MaxInt8:
		w.b = append(w.b, byte(n))
	case n <= math.MaxUint8:
		w.b = append(w.b, 0xcc, byte(n))
	case n <= math.MaxUint16:
		w.b = binary.BigEndian.AppendUint16(append(w.b, 0xcd), uint16(n))
	case n <= math.MaxUint32:
		w.b = binary.BigEndian.AppendUint32(append(w.b, 0xce), uint32(n))
	default:
		w.b = binary.BigEndian.AppendUint64(append(w.b, 0xcf), n)
	}
}

// truth is a field that is there only where it is true.
func (w *wireWriter) truth(key string, is bool) {
	if is {
		w.key(key)
		w.b = append(w.b, 0xc3)
	}
}

func present(fields ...bool) (n int) {
	for _, is := range fields {
		if is {
			n++
		}
	}
	return n
}

// appendHeader appends what marshal makes of a header.
func appendHeader(dst []byte, h *header) []byte {
	w := wireWriter{dst}
	w.fields(1 + present(h.By != "", len(h.Fingerprint) > 0, len(h.ID) > 0, h.ClientKey))
	if h.By != "" {
		w.text("b", h.By)
	}
	if len(h.Fingerprint) > 0 {
		w.bytes("f", h.Fingerprint)
	}
	if len(h.ID) > 0 {
		w.bytes("i", h.ID)
	}
	w.truth("k", h.ClientKey)
	w.instant("t", h.Time)
	return w.b
}

// appendCreateDelegation appends what marshal makes of one.
func appendCreateDelegation(dst []byte, b *CreateDelegation) []byte {
	d := &b.Delegation
	w := wireWriter{dst}
	w.fields(1 + present(b.EnsurePrincipal, b.Regrant))
	w.key("d")
	w.fields(9 + present(d.Origin != "", d.Reason != "", d.Withdrawn != 0))
	w.text("a", d.Agent)
	w.instant("ct", d.Created)
	w.instant("et", d.Expires)
	w.text("i", d.ID)
	w.number("mh", uint64(d.MaxHops))
	if d.Origin != "" {
		w.text("o", d.Origin)
	}
	w.text("p", d.Principal)
	w.number("r", d.Revision)
	if d.Reason != "" {
		w.text("re", d.Reason)
	}
	w.text("s", string(d.Scopes))
	w.text("st", string(d.Status))
	if d.Withdrawn != 0 {
		w.instant("wt", d.Withdrawn)
	}
	w.truth("ep", b.EnsurePrincipal)
	w.truth("rg", b.Regrant)
	return w.b
}

// inOrder reads the name of the next field. Fields come in the order of their names, and none comes twice.
func (r *wireReader) inOrder(last string) string {
	name := r.text()
	if string(name) <= last {
		r.give()
	}
	switch string(name) { // the names that are read below, without making a string of what is read
	case "a":
		return "a"
	case "b":
		return "b"
	case "ct":
		return "ct"
	case "d":
		return "d"
	case "ep":
		return "ep"
	case "et":
		return "et"
	case "f":
		return "f"
	case "i":
		return "i"
	case "k":
		return "k"
	case "mh":
		return "mh"
	case "o":
		return "o"
	case "p":
		return "p"
	case "r":
		return "r"
	case "re":
		return "re"
	case "rg":
		return "rg"
	case "s":
		return "s"
	case "st":
		return "st"
	case "t":
		return "t"
	case "wt":
		return "wt"
	}
	r.give()
	return ""
}

// quickHeader reads a header, whose bytes lie within what is read; false where the codec has to.
func quickHeader(data []byte, h *header, s *shared) (read int, ok bool) {
	r := wireReader{b: data}
	last := ""
	for n := r.fields(); n > 0 && !r.strange; n-- {
		switch last = r.inOrder(last); last {
		case "b":
			h.By = s.short(r.text())
		case "f":
			h.Fingerprint = r.binary()
		case "i":
			h.ID = r.binary()
		case "k":
			h.ClientKey = r.bool()
		case "t":
			h.Time = r.instant()
		default:
			r.give()
		}
	}
	return len(data) - len(r.b), !r.strange
}

// quickCreateDelegation reads a body that is all of data; false where the codec has to.
func quickCreateDelegation(data []byte, b *CreateDelegation, s *shared) bool {
	r := wireReader{b: data}
	last := ""
	for n := r.fields(); n > 0 && !r.strange; n-- {
		switch last = r.inOrder(last); last {
		case "d":
			r.lent(&b.Delegation, s)
		case "ep":
			b.EnsurePrincipal = r.bool()
		case "rg":
			b.Regrant = r.bool()
		default:
			r.give()
		}
	}
	return !r.strange && len(r.b) == 0
}

func (r *wireReader) lent(d *identity.Delegation, s *shared) {
	last := ""
	for n := r.fields(); n > 0 && !r.strange; n-- {
		switch last = r.inOrder(last); last {
		case "a":
			d.Agent = s.short(r.text())
		case "ct":
			d.Created = r.instant()
		case "et":
			d.Expires = r.instant()
		case "i":
			d.ID = string(r.text())
		case "mh":
			hops := r.positive()
			if hops > math.MaxUint8 {
				r.give()
			}
			d.MaxHops = uint8(hops)
		case "o":
			d.Origin = s.short(r.text())
		case "p":
			d.Principal = string(r.text())
		case "r":
			d.Revision = r.positive()
		case "re":
			d.Reason = string(r.text()) // often one of its own
		case "s":
			d.Scopes = identity.Scopes(s.short(r.text()))
		case "st":
			d.Status = identity.DelegationStatus(s.short(r.text()))
		case "wt":
			d.Withdrawn = r.instant()
		default:
			r.give()
		}
	}
}

// short is text for names and the like. What is long is not kept.
func (s *shared) short(b []byte) string {
	const most = 256
	if len(b) > most {
		return string(b)
	}
	return s.text(b)
}

package fsm

import "github.com/deputy-id/deputy/identity"

// What a snapshot has by the million is written by hand, as restore_wire.go reads it: byte for byte what the codec would
// write, at a fifth of its time. While a large snapshot is written, the log behind it grows, and every start applies that.

// appendWireRecord appends what marshal makes of one.
func appendWireRecord(dst []byte, r *wireRecord) []byte {
	w := wireWriter{dst}
	w.fields(8 + present(r.Scopes != "", r.Origin != "", r.Reason != "", r.Withdrawn != 0, r.Inactive))
	w.text("a", r.Agent)
	w.instant("ct", r.Created)
	w.instant("et", r.Expires)
	w.bytes("i", r.ID)
	w.number("m", r.Made)
	w.number("mh", uint64(r.MaxHops))
	if r.Origin != "" {
		w.text("o", r.Origin)
	}
	w.text("p", r.Principal)
	w.number("r", r.Revision)
	if r.Reason != "" {
		w.text("re", r.Reason)
	}
	if r.Scopes != "" {
		w.text("s", r.Scopes)
	}
	if r.Withdrawn != 0 {
		w.instant("wt", r.Withdrawn)
	}
	w.truth("x", r.Inactive)
	return w.b
}

// appendRevocation appends what marshal makes of one.
func appendRevocation(dst []byte, r *identity.Revocation) []byte {
	w := wireWriter{dst}
	w.fields(4 + present(r.By != "", r.Reason != ""))
	w.instant("at", r.At)
	if r.By != "" {
		w.text("b", r.By)
	}
	w.instant("et", r.Expires)
	w.text("h", string(r.Handle))
	w.number("ix", r.Index)
	if r.Reason != "" {
		w.text("re", r.Reason)
	}
	return w.b
}

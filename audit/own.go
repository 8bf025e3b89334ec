package audit

import "github.com/deputy-id/deputy/identity"

// Bodies of the records that a log writes about itself. Headers and checkpoints are in checkpoint.go.

func appendDroppedBody(dst []byte, at identity.Instant, d *drops) []byte {
	e := encoder{b: dst}
	e.head(at, KindDropped)
	e.number(`,"dropped":`, d.count)
	e.b = append(e.b, `,"since":`...)
	e.instant(identity.InstantOf(d.since))
	e.b = append(e.b, `,"until":`...)
	e.instant(identity.InstantOf(d.till))
	return e.b
}

func appendResumedBody(dst []byte, at identity.Instant, f *failure) []byte {
	e := encoder{b: dst}
	e.head(at, KindResumed)
	e.number(`,"refused":`, f.refused)
	e.b = append(e.b, `,"since":`...)
	e.instant(identity.InstantOf(f.since))
	e.text(`,"error":`, f.err.Error())
	return e.b
}

// appendRecoveredBody speaks of a last line that a crash had left without its end.
func appendRecoveredBody(dst []byte, at identity.Instant, file string, cut int64, sum Hash) []byte {
	e := encoder{b: dst}
	e.head(at, KindRecovered)
	e.text(`,"segment":`, file)
	e.number(`,"bytes":`, uint64(cut))
	e.b = appendHash(append(e.b, `,"sha256":"`...), &sum)
	e.b = append(e.b, '"')
	return e.b
}

// appendHeadLostBody says that the log goes on here without its head, and what that said, as far as it can be told.
func appendHeadLostBody(dst []byte, at identity.Instant, h *sealedHead) []byte {
	e := encoder{b: dst}
	e.head(at, KindRecovered)
	e.text(`,"head":`, "lost")
	if h != nil {
		e.text(`,"log":`, h.Log)
		e.number(`,"through":`, h.Through)
		e.b = appendHash(append(e.b, `,"sealed":"`...), &h.Head)
		e.b = append(e.b, `","sealed_at":`...)
		e.instant(h.Time)
	}
	return e.b
}

// headLoss is what such a record says. Of other records of its kind Head is empty.
type headLoss struct {
	Head    string `json:"head"`
	Log     string `json:"log"`
	Through uint64 `json:"through"`
}

// retention is what a record of kind retention says.
type retention struct {
	Through uint64 `json:"through"` // the last record that is removed
	Bytes   int64  `json:"bytes"`
	Sinks   []loss `json:"sinks"`
}

// loss is what a sink had not confirmed of what is removed. What it holds in its hands it may deliver yet.
type loss struct {
	Sink        string `json:"sink"`
	From        uint64 `json:"from"`
	Unconfirmed uint64 `json:"unconfirmed"`
}

func appendRetentionBody(dst []byte, at identity.Instant, r *retention) []byte {
	e := encoder{b: dst}
	e.head(at, KindRetention)
	e.number(`,"through":`, r.Through)
	e.number(`,"bytes":`, uint64(r.Bytes))
	for i := range r.Sinks {
		l := &r.Sinks[i]
		if i == 0 {
			e.b = append(e.b, `,"sinks":[`...)
		} else {
			e.b = append(e.b, ',')
		}
		e.text(`{"sink":`, l.Sink)
		e.number(`,"from":`, l.From)
		e.number(`,"unconfirmed":`, l.Unconfirmed)
		e.b = append(e.b, '}')
		if i == len(r.Sinks)-1 {
			e.b = append(e.b, ']')
		}
	}
	return e.b
}

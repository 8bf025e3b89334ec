package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Met reports whether mint speed over the full store is what the project asks for.
func (r *ScaleReport) Met() bool {
	for _, m := range r.Mint {
		if !m.Met {
			return false
		}
	}
	for _, i := range r.Introspect {
		if !i.Met {
			return false
		}
	}
	return r.Asked.Met
}

// WriteJSON writes the report as one JSON document.
func (r *ScaleReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for people.
func (r *ScaleReport) WriteTable(w io.Writer) error {
	p := &printer{w: w}
	p.environment(r.Environment)
	p.line("one state machine in this process, filled by commands of %d objects; no disk under the log", r.Batch)
	p.line("")
	p.table(func(row func(cells ...any)) {
		row("KIND", "COUNT", "HEAP BYTES EACH", "LOG BYTES EACH", "APPLIES/S")
		for _, o := range r.Objects {
			row(o.Kind, whole(float64(o.Count)), whole(o.Bytes), whole(o.LogSize), whole(o.Rate))
		}
	})
	p.line("live heap %s MiB", whole(float64(r.HeapBytes)/(1<<20)))
	p.line("")
	p.line("snapshot call %s (median), %s (longest); writing %.0f ms, %s MiB; restoring %.0f ms",
		inMillis(r.SnapshotCall.Median), inMillis(r.SnapshotCall.Max), r.PersistMillis, whole(float64(r.SnapshotBytes)/(1<<20)), r.RestoreMillis)
	p.line("")
	p.table(func(row func(cells ...any)) {
		row("MINT (VIEW, DECIDE, SIGN)", "AGENTS", "FULL STORE/S", "EMPTY STORE/S", "GARBAGE, BYTES EACH", "COLLECTING IT, NS EACH")
		for _, m := range r.Mint {
			row(m.Session, m.Picked, whole(m.Full.Median), whole(m.Empty.Median), whole(m.Garbage), whole(m.GCNanos))
		}
	})
	p.line("%d rounds of %d ms of CPU time each, taken in turns", r.Rounds, r.RoundMillis)
	p.line("")
	p.line("set asked for %d handles, none revoked: %.0f ns with all live (p25–p75 %.0f–%.0f), %.0f ns empty; asked for: at most %.0f ns: %s",
		r.Asked.Handles, r.Asked.Full.Median, r.Asked.Full.Low, r.Asked.Full.High, r.Asked.Empty.Median, r.Asked.Target, metOrMissed(r.Asked.Met))
	p.table(func(row func(cells ...any)) {
		row("VERIFY (PARSE, CACHE OR SIGNATURE, SET)", "ALL LIVE/S", "EMPTY SET/S", "NS MORE EACH")
		for _, i := range r.Introspect {
			row("tokens "+i.Tokens, whole(i.Full.Median), whole(i.Empty.Median), whole(i.Nanos))
		}
	})
	for _, i := range r.Introspect {
		if i.Target == 0 {
			p.line("ratio verifying with all revocations live / with none, tokens %s, = %.3f; over HTTP see --restart", i.Tokens, i.Ratio.Median)
			continue
		}
		p.ratio("verifying with all revocations live / with none, tokens "+i.Tokens+",", i.Ratio, i.Target, i.Met)
	}
	for _, m := range r.Mint {
		p.ratio(fmt.Sprintf("mint over the full store / over an empty one, %s, agents %s,", m.Session, m.Picked), m.Ratio, m.Target, m.Met)
	}
	return p.err
}

func metOrMissed(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

func inMillis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// WriteJSON writes the report as one JSON document.
func (r *LoadReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for people.
func (r *LoadReport) WriteTable(w io.Writer) error {
	p := &printer{w: w}
	p.environment(r.Environment)
	p.line("%s: %d objects a request, %d requests under way", r.Load, r.Batch, r.Concurrency)
	p.line("")
	p.table(func(row func(cells ...any)) {
		row("KIND", "CREATED", "THERE ALREADY", "SECONDS", "CREATED/S", "REQUEST P50", "P99", "MAX")
		for _, s := range r.Stages {
			row(s.Kind, whole(float64(s.Created)), whole(float64(s.Existing)), fmt.Sprintf("%.1f", s.Seconds), whole(s.Rate),
				micros(s.Latency.P50), micros(s.Latency.P99), micros(s.Latency.Max))
		}
	})
	for _, s := range r.Stages {
		for _, code := range slices.Sorted(maps.Keys(s.Refused)) {
			p.line("refused: %s: %s × %d", s.Kind, code, s.Refused[code])
		}
	}
	return p.err
}

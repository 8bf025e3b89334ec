package fsm

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are registered in full from the start, so that a series that is absent means a broken scrape and
// never "nothing happened yet".
type metrics struct {
	commands  map[Type]*outcomes
	snapshots *prometheus.HistogramVec
}

type outcomes struct{ applied, refused, replayed prometheus.Counter }

func newMetrics(r prometheus.Registerer, view func() *View) *metrics {
	commands := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "deputy_fsm_commands_total",
		Help: "Commands applied from the replicated log, by type and outcome (applied, refused, replayed).",
	}, []string{"type", "outcome"})
	m := &metrics{
		commands: make(map[Type]*outcomes, len(names)),
		snapshots: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "deputy_fsm_snapshot_seconds",
			Help:    "Time to write (persist) or read (restore) a whole snapshot.",
			Buckets: []float64{.001, .01, .1, .5, 1, 5, 10, 30, 60, 120},
		}, []string{"operation"}),
	}
	for _, t := range slices.Sorted(maps.Keys(names)) {
		m.commands[t] = &outcomes{
			applied:  commands.WithLabelValues(t.String(), "applied"),
			refused:  commands.WithLabelValues(t.String(), "refused"),
			replayed: commands.WithLabelValues(t.String(), "replayed"),
		}
	}
	m.snapshots.WithLabelValues("persist")
	m.snapshots.WithLabelValues("restore")
	if r == nil {
		return m
	}
	r.MustRegister(commands, m.snapshots)
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_fsm_applied_index",
		Help: "Log index whose effects this node shows.",
	}, func() float64 { return float64(view().Index()) }))
	for kind, n := range map[string]func(Counts) int{
		"agents":       func(c Counts) int { return c.Agents },
		"principals":   func(c Counts) int { return c.Principals },
		"applications": func(c Counts) int { return c.Applications },
		"delegations":  func(c Counts) int { return c.Delegations },
		"revocations":  func(c Counts) int { return c.Revocations },
		"api_tokens":   func(c Counts) int { return c.APITokens },
		"members":      func(c Counts) int { return c.Members },
		"policies":     func(c Counts) int { return c.Policies },
		"approvals":    func(c Counts) int { return c.Approvals },
	} {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "deputy_fsm_objects",
			Help:        "Objects in the replicated state, by kind.",
			ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(n(view().Counts())) }))
	}
	return m
}

func (m *metrics) count(t Type, r Result) {
	o := m.commands[t]
	switch {
	case r.Replayed:
		o.replayed.Inc()
	case r.Err != nil:
		o.refused.Inc()
	default:
		o.applied.Inc()
	}
}

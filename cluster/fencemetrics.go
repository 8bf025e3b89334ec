package cluster

import "github.com/prometheus/client_golang/prometheus"

// Values of the label "outcome" of fences.
const (
	fenceDone    = "done"
	fenceOpen    = "open"    // the caller went before every member was settled
	fenceRefused = "refused" // by a node that doesn't lead
)

type fenceMetrics struct {
	fences  *prometheus.CounterVec
	members *prometheus.CounterVec
	took    prometheus.Histogram
}

func newFenceMetrics() *fenceMetrics {
	m := &fenceMetrics{
		fences: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_cluster_fences_total",
			Help: "Fences that were raised at this node, by outcome.",
		}, []string{"outcome"}),
		members: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_cluster_fence_members_total",
			Help: "Members in the reports of fences raised at this node, by state.",
		}, []string{"state"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "deputy_cluster_fence_seconds",
			Help:    "Time from raising a fence until every member had acknowledged it or could hold no older lease.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 17), // 1 ms to 66 s: a minute is the longest lease
		}),
	}
	for _, outcome := range []string{fenceDone, fenceOpen, fenceRefused} {
		m.fences.WithLabelValues(outcome)
	}
	for _, state := range []FenceState{FenceAcknowledged, FenceExpired, FenceWaiting} {
		m.members.WithLabelValues(string(state))
	}
	return m
}

func (m *fenceMetrics) raised(r FenceReport, err error) {
	switch {
	case err != nil:
		m.fences.WithLabelValues(fenceRefused).Inc()
	case r.Done:
		m.fences.WithLabelValues(fenceDone).Inc()
		m.took.Observe(r.Took.Seconds())
	default:
		m.fences.WithLabelValues(fenceOpen).Inc()
	}
	for _, n := range r.Nodes {
		m.members.WithLabelValues(string(n.State)).Inc()
	}
}

// Describe and Collect let the owner register the fences with its other metrics.
func (f *Fences) Describe(ch chan<- *prometheus.Desc) {
	f.metrics.fences.Describe(ch)
	f.metrics.members.Describe(ch)
	f.metrics.took.Describe(ch)
}

// Collect is part of prometheus.Collector.
func (f *Fences) Collect(ch chan<- prometheus.Metric) {
	f.metrics.fences.Collect(ch)
	f.metrics.members.Collect(ch)
	f.metrics.took.Collect(ch)
}

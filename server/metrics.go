package server

import (
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/deputy-id/deputy/cluster"
)

// exposeState publishes what only the composition root knows. Every series is there from boot.
func (s *Server) exposeState() {
	factory := promauto.With(s.registry)
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_lease_remaining_seconds",
		Help: "How long this node may still speak without another lease round; 0: it answers not-fresh.",
	}, func() float64 { return s.lease.Remaining().Seconds() })
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_lease_age_seconds",
		Help: "Age of the state that this node's lease proves; 0 without a lease.",
	}, func() float64 { return s.lease.State().Age.Seconds() })
	for _, reason := range cluster.LeaseLosses() {
		factory.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "deputy_lease_missing",
			Help:        "1 while this node holds no lease, for the reason that the label says.",
			ConstLabels: prometheus.Labels{"reason": reason},
		}, func() float64 {
			state := s.lease.State()
			if !state.Held && strings.HasPrefix(state.Reason, reason) {
				return 1
			}
			return 0
		})
	}
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_ready",
		Help: "1 while this node mints and introspects, as /readyz says.",
	}, func() float64 {
		if s.ready() != nil {
			return 0
		}
		return 1
	})
	factory.NewGaugeVec(prometheus.GaugeOpts{
		Name: "deputy_build_info", Help: "Always 1; the labels say which build this is.",
	}, []string{"version", "go_version"}).WithLabelValues(s.version, runtime.Version()).Set(1)
}

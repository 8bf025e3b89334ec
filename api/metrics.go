package api

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/deputy-id/deputy/identity"
)

// metrics are counted without a lookup by label on the way of a request: every series is made at the start,
// which also has them all present from boot.
type metrics struct {
	byRoute  map[string]*routeMetrics // by pattern; read-only once made
	refusals map[identity.Code]prometheus.Counter

	mints        [2]prometheus.Counter // by kind of run: autonomous, delegated
	introspected [2]prometheus.Counter // inactive, active
	forwarded    [2]prometheus.Counter // as origin, as leader
	unrecorded   prometheus.Counter
}

type routeMetrics struct {
	classes [6]prometheus.Counter // by status / 100
	seconds prometheus.Observer
}

const (
	mintAutonomous = iota
	mintDelegated
)

const (
	forwardSent = iota
	forwardServed
)

func newMetrics(registerer prometheus.Registerer, routes []Route) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "deputy", Subsystem: "api", Name: "requests_total", Help: "Requests answered, by route and class of status.",
	}, []string{"route", "class"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "deputy", Subsystem: "api", Name: "request_seconds", Help: "Time from a parsed request to its answer, by route.",
		Buckets: []float64{25e-6, 50e-6, 100e-6, 250e-6, 500e-6, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
	}, []string{"route"})
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "deputy", Subsystem: "api", Name: "refusals_total", Help: "Requests refused, by the error's code.",
	}, []string{"code"})
	mints := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "deputy", Subsystem: "api", Name: "mints_total", Help: "Tokens minted, by whether the run is autonomous or on behalf of a user.",
	}, []string{"run"})
	introspections := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "deputy", Subsystem: "api", Name: "introspections_total", Help: "Tokens introspected, by the answer.",
	}, []string{"active"})
	forwards := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "deputy", Subsystem: "api", Name: "forwards_total", Help: "Writes forwarded to the leader, as seen by each side.",
	}, []string{"side"})
	unrecorded := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "deputy", Subsystem: "api", Name: "unrecorded_total", Help: "Decisions whose audit record could not be written.",
	})
	for _, c := range []prometheus.Collector{requests, seconds, refusals, mints, introspections, forwards, unrecorded} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of the api: %w", err)
		}
	}
	m := &metrics{byRoute: map[string]*routeMetrics{}, refusals: map[identity.Code]prometheus.Counter{}, unrecorded: unrecorded}
	patterns := []string{routeOptions.pattern(), routeNotFound.pattern(), routeMethodNotAllowed.pattern(), routeUnparsed.pattern()}
	for i := range routes {
		patterns = append(patterns, routes[i].pattern())
	}
	for _, pattern := range patterns {
		r := &routeMetrics{seconds: seconds.WithLabelValues(pattern)}
		for class := 2; class <= 5; class++ {
			r.classes[class] = requests.WithLabelValues(pattern, fmt.Sprintf("%dxx", class))
		}
		m.byRoute[pattern] = r
	}
	for code := range verdicts {
		m.refusals[code] = refusals.WithLabelValues(string(code))
	}
	m.mints = [2]prometheus.Counter{mints.WithLabelValues("autonomous"), mints.WithLabelValues("delegated")}
	m.introspected = [2]prometheus.Counter{introspections.WithLabelValues("false"), introspections.WithLabelValues("true")}
	m.forwarded = [2]prometheus.Counter{forwards.WithLabelValues("origin"), forwards.WithLabelValues("leader")}
	return m, nil
}

// of finds a route's series, once for each route.
func (m *metrics) of(route *Route) *routeMetrics { return m.byRoute[route.pattern()] }

func (r *routeMetrics) served(status int, took time.Duration) {
	if class := status / 100; class >= 2 && class <= 5 {
		r.classes[class].Inc()
	}
	r.seconds.Observe(took.Seconds())
}

func (m *metrics) refused(code identity.Code) { m.refusals[code].Inc() }

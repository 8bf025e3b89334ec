package outbound

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const outcomeOK = "ok"

// Values of the label "document".
const (
	documentProvider = "provider" // metadata of an issuer
	documentKeys     = "keys"
)

// Values of the label "state" of documents.
const (
	stateFresh   = "fresh"
	stateStale   = "stale" // served past its time, as its source can't be reached
	stateMissing = "missing"
)

// kinds lists every Kind, so that all series are there from boot.
func kinds() []Kind {
	return []Kind{
		KindURL, KindAddress, KindResolve, KindConnect, KindTLS, KindTimeout, KindCanceled,
		KindProtocol, KindRedirect, KindStatus, KindTooLarge, KindContentType, KindDocument,
	}
}

// registration puts collectors into a registry, all or none, and takes them out again, so that another node of the same
// process can take over the registry.
type registration struct {
	collectors []prometheus.Collector
	once       sync.Once
	registerer prometheus.Registerer // nil while not registered
}

func (r *registration) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	for i, c := range r.collectors {
		if err := registerer.Register(c); err != nil {
			for _, registered := range r.collectors[:i] {
				registerer.Unregister(registered)
			}
			return fmt.Errorf("registering the metrics of outbound requests: %w", err)
		}
	}
	r.registerer = registerer
	return nil
}

func (r *registration) unregister() {
	r.once.Do(func() {
		if r.registerer == nil {
			return
		}
		for _, c := range r.collectors {
			r.registerer.Unregister(c)
		}
	})
}

// keyMetrics are those of a KeySource.
type keyMetrics struct {
	registration
	fetches *prometheus.CounterVec
}

func newKeyMetrics(tally func(document string) (map[string]int, float64)) *keyMetrics {
	m := &keyMetrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_keysource_fetches_total",
			Help: "Documents fetched from configured sources, by what they are and what came of it.",
		}, []string{"document", "outcome"}),
	}
	for _, document := range []string{documentProvider, documentKeys} {
		m.fetches.WithLabelValues(document, outcomeOK)
		for _, kind := range kinds() {
			m.fetches.WithLabelValues(document, string(kind))
		}
	}
	m.collectors = []prometheus.Collector{m.fetches, &documentCollector{
		tally: tally,
		count: prometheus.NewDesc("deputy_keysource_documents", "Documents kept, by whether they are fresh, served past their time, or not to be had.", []string{"document", "state"}, nil),
		age:   prometheus.NewDesc("deputy_keysource_oldest_seconds", "Age of the oldest document that is served; past 86400 it is served no more.", []string{"document"}, nil),
	}}
	return m
}

func (m *keyMetrics) of(document string) *prometheus.CounterVec {
	return m.fetches.MustCurryWith(prometheus.Labels{"document": document})
}

// documentCollector looks when it is asked.
type documentCollector struct {
	tally      func(document string) (map[string]int, float64)
	count, age *prometheus.Desc
}

func (c *documentCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.count
	ch <- c.age
}

func (c *documentCollector) Collect(ch chan<- prometheus.Metric) {
	for _, document := range []string{documentProvider, documentKeys} {
		states, oldest := c.tally(document)
		for state, n := range states {
			ch <- prometheus.MustNewConstMetric(c.count, prometheus.GaugeValue, float64(n), document, state)
		}
		ch <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, oldest, document)
	}
}

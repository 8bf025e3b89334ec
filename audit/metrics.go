package audit

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one log. Every series is there from the start, so that an alert on a rate sees the first event.
type metrics struct {
	records      []prometheus.Counter // by class
	byKind       *prometheus.CounterVec
	own          prometheus.Counter
	refused      prometheus.Counter
	dropped      prometheus.Counter
	writeSeconds prometheus.Histogram
	batch        prometheus.Histogram
	syncSeconds  prometheus.Histogram
	unsealed     prometheus.Counter

	registerer prometheus.Registerer // nil while not registered
	collectors []prometheus.Collector
}

func newMetrics() *metrics {
	m := &metrics{
		byKind: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_audit_records_total", Help: "Audit records that were written, by kind and decision.",
		}, []string{"kind", "decision"}),
		own: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "deputy_audit_own_records_total", Help: "Records that the audit log wrote about itself, but for headers and checkpoints.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "deputy_audit_refused_total", Help: "Audit records that could not be written; what they spoke of was refused.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "deputy_audit_dropped_total", Help: "Audit records that were dropped because the queue was full.",
		}),
		writeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "deputy_audit_write_seconds", Help: "Time of one write to the audit log.",
			Buckets: prometheus.ExponentialBuckets(0.00001, 4, 10), // 10 µs to 2.6 s
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "deputy_audit_batch_records", Help: "Audit records that were gathered for one turn of the writer.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8), // 1 to 16,384
		}),
		syncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "deputy_audit_sync_seconds", Help: "Time of one sync of the audit log.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // 0.1 ms to 6.5 s
		}),
		unsealed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "deputy_audit_seal_failures_total", Help: "Times that the head of the audit log could not be sealed; it is tried again each second.",
		}),
	}
	for _, k := range Kinds() {
		for _, d := range []Decision{Allowed, Denied} {
			m.records = append(m.records, m.byKind.WithLabelValues(string(k), string(d)))
		}
	}
	m.collectors = []prometheus.Collector{m.byKind, m.own, m.refused, m.dropped, m.writeSeconds, m.batch, m.syncSeconds, m.unsealed}
	return m
}

// committed counts the first n records of an arena.
func (m *metrics) committed(a *arena, n int) {
	if n == 0 {
		return
	}
	m.batch.Observe(float64(n))
	for _, c := range a.classes[:n] {
		if c == ownClass {
			m.own.Inc()
		} else {
			m.records[c].Inc()
		}
	}
}

// register adds what is read from the log when it is asked for.
func (m *metrics) register(l *Log, r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	gauge := func(name, help string, value func() float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("deputy_audit_failing", "1 while the audit log can't be written.", func() float64 {
		if l.Failing() != nil {
			return 1
		}
		return 0
	})
	gauge("deputy_audit_queue_records", "Audit records that wait to be written.", func() float64 { return float64(l.queue.len()) })
	gauge("deputy_audit_unsynced_seconds", "Age of the oldest audit record that a power cut could lose.", func() float64 {
		return l.syncer.unsynced(time.Now()).Seconds()
	})
	gauge("deputy_audit_sequence", "Number of the newest audit record.", func() float64 {
		last, _ := l.catalog.last()
		return float64(last)
	})
	gauge("deputy_audit_checkpoint_sequence", "Number of the newest audit record with a signature over it.", func() float64 {
		c, _ := l.checkpoints.latest()
		return float64(c.Through)
	})
	gauge("deputy_audit_sealed_sequence", "Number of the record to which the head of the audit log is sealed.", func() float64 {
		return float64(l.sealer.through())
	})
	gauge("deputy_audit_segments", "Files of the audit log.", func() float64 { return float64(len(l.catalog.all())) })
	gauge("deputy_audit_bytes", "Size of the audit log.", func() float64 { return float64(bytesOf(l.catalog.all())) })
	m.collectors = append(m.collectors, newSinkCollector(l))
	for i, c := range m.collectors {
		if err := r.Register(c); err != nil {
			for _, c := range m.collectors[:i] {
				r.Unregister(c)
			}
			return fmt.Errorf("registering the metrics of the audit log: %w", errors.Join(err))
		}
	}
	m.registerer = r
	return nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

// sinkCollector reads where the sinks stand.
type sinkCollector struct {
	log                                   *Log
	lagRecords, lagSeconds, lost, failing *prometheus.Desc
	failures                              *prometheus.Desc
}

func newSinkCollector(l *Log) *sinkCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"sink"}, nil)
	}
	return &sinkCollector{
		log:        l,
		lagRecords: desc("deputy_audit_sink_lag_records", "Audit records that a sink has not got yet."),
		lagSeconds: desc("deputy_audit_sink_lag_seconds", "Age of the oldest of them."),
		lost:       desc("deputy_audit_sink_lost_total", "Audit records that were removed before a sink got them."),
		failures:   desc("deputy_audit_sink_failures_total", "Deliveries that a sink didn't take; they are repeated."),
		failing:    desc("deputy_audit_sink_failing", "1 while a sink takes nothing."),
	}
}

// Describe implements prometheus.Collector.
func (c *sinkCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.lagRecords, c.lagSeconds, c.lost, c.failures, c.failing} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *sinkCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.log.Sinks() {
		failing := 0.0
		if s.Err != nil {
			failing = 1
		}
		ch <- prometheus.MustNewConstMetric(c.lagRecords, prometheus.GaugeValue, float64(s.Behind), s.Name)
		ch <- prometheus.MustNewConstMetric(c.lagSeconds, prometheus.GaugeValue, s.Lag.Seconds(), s.Name)
		ch <- prometheus.MustNewConstMetric(c.lost, prometheus.CounterValue, float64(s.Lost), s.Name)
		ch <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(s.Failures), s.Name)
		ch <- prometheus.MustNewConstMetric(c.failing, prometheus.GaugeValue, failing, s.Name)
	}
}

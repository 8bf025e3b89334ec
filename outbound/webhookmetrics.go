package outbound

import "github.com/prometheus/client_golang/prometheus"

// Values of the label "result" of deliveries.
const (
	resultDelivered = "delivered"
	resultExpired   = "expired" // its time was over
	resultGone      = "gone"    // the target answered 410
	resultDropped   = "dropped" // the target was taken out of the configuration
	resultRefused   = "refused" // the queue was full
)

// webhookMetrics are those of Webhooks.
type webhookMetrics struct {
	registration
	attempts, deliveries *prometheus.CounterVec
}

func newWebhookMetrics(queued func() float64) *webhookMetrics {
	m := &webhookMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_webhook_attempts_total", Help: "Attempts to deliver to webhooks, by what came of them.",
		}, []string{"outcome"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_webhook_deliveries_total", Help: "Deliveries to webhooks that are done with, by how they ended.",
		}, []string{"result"}),
	}
	m.attempts.WithLabelValues(outcomeOK)
	for _, kind := range kinds() {
		m.attempts.WithLabelValues(string(kind))
	}
	for _, result := range []string{resultDelivered, resultExpired, resultGone, resultDropped, resultRefused} {
		m.deliveries.WithLabelValues(result)
	}
	m.collectors = []prometheus.Collector{m.attempts, m.deliveries, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_webhook_queued", Help: "Deliveries to webhooks that wait or are under way.",
	}, queued)}
	return m
}

func (m *webhookMetrics) attempt(err error) {
	outcome := outcomeOK
	if err != nil {
		outcome = string(kindOf(err))
	}
	m.attempts.WithLabelValues(outcome).Inc()
}

func (m *webhookMetrics) results(result string, n int) {
	m.deliveries.WithLabelValues(result).Add(float64(n))
}

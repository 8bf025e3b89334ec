package result

// Model is how a load decides when to ask.
type Model string

// The models. Only the open one says anything about latency under a load that the server doesn't choose.
const (
	Open   Model = "open"   // requests are due at a rate, whether or not earlier ones were answered
	Closed Model = "closed" // a connection asks again once it has its answer: finds throughput, hides waiting
)

// Load is how the requests were offered.
type Load struct {
	Model       Model   `json:"model"`
	Rate        float64 `json:"rate,omitempty"`    // open: requests due a second; the last one of a ramp
	From        float64 `json:"from,omitempty"`    // open: where a ramp begins
	Arrival     string  `json:"arrival,omitempty"` // open: "constant" or "poisson"
	Steps       []Step  `json:"steps,omitempty"`   // of a search or a staircase, in the order they were run
	Connections int     `json:"connections"`
	Seconds     float64 `json:"seconds"` // measured time asked for
	WarmUp      float64 `json:"warm_up"` // seconds before it, not counted
	Rounds      int     `json:"rounds,omitempty"`
	LateAfter   float64 `json:"late_after_us,omitempty"` // open: a request sent this long after it was due is late
}

// Step is one rate that was tried.
type Step struct {
	Rate      float64      `json:"rate"` // offered a second
	Seconds   float64      `json:"seconds"`
	Completed float64      `json:"completed_rate"`
	ErrorRate float64      `json:"error_share"`
	Latency   Distribution `json:"latency"`
	Met       bool         `json:"met"`
	Valid     bool         `json:"valid"`
	Reason    string       `json:"reason,omitempty"` // why it was not met, or not valid
}

// SLO is what was asked for, and whether it was found.
type SLO struct {
	Text       string      `json:"text"` // as given, such as "p99<2ms,errors<0.01%"
	Objectives []Objective `json:"objectives"`
	Met        bool        `json:"met"`
	Highest    *float64    `json:"highest_rate,omitempty"` // of a search: the highest rate that met it
}

// Objective is one part of an SLO.
type Objective struct {
	Text     string  `json:"text"` // such as "p99<2ms"
	Limit    float64 `json:"limit"`
	Measured float64 `json:"measured"`
	Unit     string  `json:"unit"` // "us", "share" or "per second"
	Met      bool    `json:"met"`
}

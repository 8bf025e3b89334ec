package result

// Role is what a subject is in the run.
type Role string

// The roles.
const (
	RoleMeasured Role = "measured"
	RoleCeiling  Role = "ceiling"  // does one thing only: what the measured can't be faster than
	RoleBaseline Role = "baseline" // the same thing under other circumstances, such as an empty store
)

// Subject is what one kind of request, or one server, did in the measured time.
type Subject struct {
	Name     string           `json:"name"`
	Role     Role             `json:"role"`
	Ceiling  string           `json:"ceiling,omitempty"` // which, of a ceiling: empty, sign, verify, lookup …
	Seconds  float64          `json:"seconds"`           // measured
	Counts   Counts           `json:"counts"`
	Rate     float64          `json:"rate"`                 // completed a second
	Rounds   *Spread          `json:"round_rate,omitempty"` // the same, round by round
	Latency  *Distribution    `json:"latency,omitempty"`    // from when the request was due; of a closed loop from when it was sent
	Service  *Distribution    `json:"service,omitempty"`    // from when it was sent
	Lag      *Distribution    `json:"lag,omitempty"`        // from when it was due until it was sent
	Errors   map[string]int64 `json:"errors,omitempty"`     // by kind; their sum is Counts.Failed
	Series   []Point          `json:"series,omitempty"`     // second by second
	WarmUp   *WarmUp          `json:"warm_up,omitempty"`    // shown, counted nowhere else
	CPUPer   *float64         `json:"server_cpu_us_per_request,omitempty"`
	Allocs   *float64         `json:"server_allocs_per_request,omitempty"` // heap objects
	Server   *float64         `json:"server_cpu,omitempty"`                // share of the servers' CPUs
	Generate *float64         `json:"generator_cpu,omitempty"`             // share of the generator's CPUs
	Bound    bool             `json:"generator_bound,omitempty"`           // the generator was the bottleneck
	Shares   []Share          `json:"shares,omitempty"`                    // of ceilings and baselines; the first is the one to quote
	Runs     []Figures        `json:"runs,omitempty"`                      // of each run, where several were put together
}

// Counts say what became of every request. Offered = Sent + Skipped, and Sent = Completed + Failed.
type Counts struct {
	Offered   int64 `json:"offered"`   // due in the measured time; of a closed loop as many as were sent
	Sent      int64 `json:"sent"`      // a connection was asked for, at least
	Completed int64 `json:"completed"` // answered, and rightly
	Failed    int64 `json:"failed"`    // errors and wrong answers
	Late      int64 `json:"late"`      // of those sent: later than they were due by more than Load.LateAfter
	Skipped   int64 `json:"skipped"`   // due, and never sent, as too many were under way
}

// Kinds of errors besides "http " and a status. The last four are answers that a correct server can't give.
const (
	ErrorConnect          = "connect"
	ErrorTimeout          = "timeout"
	ErrorClosed           = "connection closed"
	ErrorMalformed        = "malformed response"
	ErrorUnexpected       = "unexpected answer"
	ErrorOther            = "other"
	ErrorBadSignature     = "wrong: bad signature"
	ErrorClaimsDiffer     = "wrong: claims differ"
	ErrorFencedAccepted   = "wrong: fenced token accepted"
	ErrorGoodTokenRefused = "wrong: good token refused"
)

// wrongPrefix begins the kinds that are wrong answers rather than none.
const wrongPrefix = "wrong: "

// WarmUp is what was seen before the measured time.
type WarmUp struct {
	Seconds   float64          `json:"seconds"`
	Completed int64            `json:"completed"`
	Rate      float64          `json:"rate"`
	Errors    map[string]int64 `json:"errors,omitempty"`
	Series    []Point          `json:"series,omitempty"` // T is negative: seconds before the measured time
}

// Point is one second of a series. A request counts in the second in which it was due, so that a stall shows where it
// was felt.
type Point struct {
	T         float64 `json:"t"` // where the second begins, in seconds from the start of the measured time
	Offered   int64   `json:"offered"`
	Completed int64   `json:"completed"`
	Errors    int64   `json:"errors"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	Max       float64 `json:"max_us"`
}

// Share is a subject's rate to that of a ceiling or a baseline.
type Share struct {
	Of     string   `json:"of"` // a subject's name, or what else it is compared with
	Rounds Spread   `json:"rounds"`
	ByCPU  *float64 `json:"by_cpu,omitempty"` // the same by the servers' CPU time, which what else runs can't spoil
	Target *float64 `json:"target,omitempty"`
	Met    *bool    `json:"met,omitempty"` // nil where the target does not speak of a run like this
}

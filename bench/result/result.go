// Package result is what a benchmark found, as data: the one shape that every run writes, and that tables, pages and
// comparisons are made from.
//
// A result outlives the binary that wrote it: it is attached to design documents and compared with runs of a year
// later. So it carries a version, says everything that a figure must not be quoted without, and holds whole
// distributions and not only the percentiles that seemed enough on the day.
//
// Units: latencies are microseconds, all other times are seconds, rates are per second, shares are 0 to 1.
// What could not be measured is absent, never zero: a nil pointer, a nil slice.
package result

import (
	"cmp"
	"time"
)

// Kind marks the file, so that another JSON document isn't taken for a result.
const Kind = "deputy.bench.result"

// Version is that of the shape. It grows when an old reader would misread a new file; a mere new field that may be
// missed leaves it alone.
const Version = 1

// Result is one run of a benchmark, or several of the same put together.
type Result struct {
	Kind        string      `json:"kind"`
	Version     int         `json:"version"`
	Command     []string    `json:"command"` // the command line as it was given, program first; it never holds a secret
	Started     time.Time   `json:"started"`
	Seconds     float64     `json:"seconds"` // of the whole run, preparing and warm-up included
	Environment Environment `json:"environment"`
	Workload    string      `json:"workload"`
	About       string      `json:"about,omitempty"` // what the workload does, in one sentence
	Load        Load        `json:"load"`
	Exchange    *Exchange   `json:"exchange,omitempty"`
	Generator   *Generator  `json:"generator,omitempty"`
	Subjects    []Subject   `json:"subjects"` // what was measured first, then the ceilings
	Nodes       []Node      `json:"nodes,omitempty"`
	SLO         *SLO        `json:"slo,omitempty"`
	Faults      []Fault     `json:"faults,omitempty"` // in the order they happened
	Verdict     Verdict     `json:"verdict"`
	Notes       []string    `json:"notes,omitempty"` // what to know before quoting a figure
	Runs        int         `json:"runs"`            // that this result is made of; 1 unless it was put together
}

// Environment is what a figure must not be quoted without.
type Environment struct {
	Version       string `json:"deputy"`           // release, or the commit the binary was built from
	Commit        string `json:"commit,omitempty"` // "+changes" at its end where the tree was not clean
	CPU           string `json:"cpu"`
	CPUs          int    `json:"cpus"` // that the run may use
	Kernel        string `json:"kernel"`
	OS            string `json:"os"`
	Go            string `json:"go"`
	GOMAXPROCS    int    `json:"gomaxprocs"` // of the generator
	ServerCPUs    []int  `json:"server_cpus,omitempty"`
	GeneratorCPUs []int  `json:"generator_cpus,omitempty"`
	Pinned        bool   `json:"pinned"` // servers and generator had CPUs of their own
	Fsync         *Fsync `json:"fsync,omitempty"`
	// Scheduling is policy and priority, as chrt(1) takes them, and the nice value if any, of the generator and of the servers
	// that it started: "other 0", "rr 1", "other 0, nice 5"; "mixed" where its threads differ.
	Scheduling string `json:"scheduling,omitempty"`
}

// OrdinaryScheduling is that of whatever asks for no other.
const OrdinaryScheduling = "other 0"

// Policy is Scheduling, and the ordinary one where the result doesn't say: those of before it was asked don't.
func (e *Environment) Policy() string { return cmp.Or(e.Scheduling, OrdinaryScheduling) }

// Fsync is how long the disk takes to make one small append safe: what a write through the log can't be faster than.
type Fsync struct {
	Where string  `json:"where"` // such as "data folder of node-1"
	Count int     `json:"count"`
	Bytes int     `json:"bytes"` // of each append
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Max   float64 `json:"max_us"`
}

// Exchange is the size of one request and its answer.
type Exchange struct {
	Request  int `json:"request_bytes"`
	Response int `json:"response_bytes"` // with the head
	Body     int `json:"body_bytes"`
	Token    int `json:"token_bytes"`
}

// Generator is the process that made the load.
type Generator struct {
	CPU   float64 `json:"cpu"` // share of its CPUs over the measured time
	Bound bool    `json:"bound"`
}

// Node is one server, by its own metrics over the measured time.
type Node struct {
	Name      string   `json:"name"`
	Subject   string   `json:"subject,omitempty"` // that loaded it, where each has servers of its own
	Requests  int64    `json:"requests"`
	CPU       float64  `json:"cpu"`                   // seconds used
	PerOp     *float64 `json:"cpu_us_per_request"`    // nil where the node answered nothing
	RSS       int64    `json:"rss_bytes"`             // at the end
	PeakRSS   int64    `json:"peak_rss_bytes"`        // largest seen
	AllocsPer *float64 `json:"allocs_per_request"`    // heap objects
	GCPause   *float64 `json:"gc_pause_us,omitempty"` // longest seen
	Leader    bool     `json:"leader,omitempty"`      // at the end
}

// Fault is something that happened to a node, or that was done to it.
type Fault struct {
	T      float64   `json:"t"`             // seconds into the measured time; negative during warm-up
	End    *float64  `json:"end,omitempty"` // for what lasts, such as a stall
	Node   string    `json:"node"`
	What   FaultKind `json:"what"`
	Detail string    `json:"detail,omitempty"`
}

// FaultKind says what happened.
type FaultKind string

// What may happen to a node.
const (
	FaultKilled        FaultKind = "killed"
	FaultStarted       FaultKind = "started"
	FaultStalled       FaultKind = "stalled"
	FaultJoined        FaultKind = "joined"
	FaultRemoved       FaultKind = "removed"
	FaultLeaderChanged FaultKind = "leader changed" // Node is the new one
)

// Verdict says whether the figures may be believed.
type Verdict struct {
	Valid   bool     `json:"valid"`
	Reasons []string `json:"reasons,omitempty"` // why not
}

// Spread is a median with the quarter below and above it: how far rounds differed says how far to trust it.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"p25"`
	High   float64 `json:"p75"`
}

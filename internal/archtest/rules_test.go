package archtest

// module is the import path that own packages begin with.
const module = "github.com/deputy-id/deputy"

// room is one folder of the floor plan. Its packages may import those of mayImport, and nothing else of the
// project; their tests may import more.
type room struct {
	dir       string   // this folder; a folder below it belongs to it unless it is a room of its own
	mayImport []string // folders of the project
	reason    string
}

// floors, bottom up. Arrows point down only.
var rooms = []room{
	{
		dir:    "identity",
		reason: "the domain stands on nothing, so that a replicated state machine, a token library and a client can all hold it without dragging anything along",
	},
	{
		dir:    "internal/privatefile",
		reason: "writing a file that a crash can't halve knows nothing of what is in it",
	},
	{
		dir:    "internal/racedetector",
		reason: "how tests were built knows nothing of what they test",
	},
	{
		dir:    "internal/machine",
		reason: "what the operating system says of the machine depends on nothing that runs on it",
	},
	{
		dir:       "internal/virtualtime",
		mayImport: []string{"internal/racedetector"},
		reason:    "a bubble of virtual time knows nothing of what is tested in it",
	},
	{
		dir:       "revocation",
		mayImport: []string{"identity"},
		reason:    "the set knows handles and expiries; were it to know tokens or the log, neither could be tested or replaced without the other",
	},
	{
		dir:       "policy",
		mayImport: []string{"identity"},
		reason:    "a decision is a pure function of the domain; a policy that could reach the log, the cluster or a token could have side effects",
	},
	{
		dir:       "proofs",
		mayImport: []string{"identity"},
		reason:    "what others have made is judged by what is passed in, keys, rules and the time, and by nothing else; were it to know the log or the network, a forged token could reach them",
	},
	{
		dir:       "internal/hostile",
		mayImport: []string{"identity"},
		reason:    "whoever forges must not lean on the code that has to notice",
	},
	{
		dir:    "outbound",
		reason: "speaking safely to an address that somebody configured knows nothing of what is said; were it to know keys or events, each would soon have a client of its own that forgets one of the checks",
	},
	{
		dir:       "sessions",
		mayImport: []string{"identity"},
		reason:    "what a node remembers of the sessions that it started decides nothing; were it to know tokens or revocations, somebody would come to ask it instead of those",
	},
	{
		dir:       "policy/policytest",
		mayImport: []string{"identity", "policy"},
		reason:    "a file of cases is held to the engine from outside, so that nothing is decided for tests that is not decided for requests",
	},
	{
		dir:       "audit",
		mayImport: []string{"identity", "internal/privatefile"},
		reason:    "whoever decides hands over what it decided; were the log to know handlers, tokens or the cluster, what it holds could not be judged without them",
	},
	{
		dir:       "tokens",
		mayImport: []string{"identity", "policy", "internal/privatefile"},
		reason:    "whoever mints needs a Grant, which only policy makes, and declares the revocation check that it wants as an interface; so minting can be verified without a cluster",
	},
	{
		dir:       "fsm",
		mayImport: []string{"identity", "revocation"},
		reason:    "a replayed log must have no side effect: it may neither mint nor speak to the network",
	},
	{
		dir:       "cluster",
		mayImport: []string{"internal/privatefile"},
		reason:    "consensus, membership and transport carry bytes and indexes; were they to know the domain, every change of the domain would be a change of the protocol",
	},
	{
		dir:       "api/wire",
		mayImport: []string{"identity"},
		reason:    "wire types are shared with clients, who must not have to link a server",
	},
	{
		dir:       "api",
		mayImport: []string{"identity", "revocation", "policy", "proofs", "outbound", "sessions", "audit", "tokens", "fsm", "cluster", "api/wire"},
		reason:    "handlers stand on the floors below and are wired from above; importing server would close the circle",
	},
	{
		dir:       "client",
		mayImport: []string{"identity", "api/wire", "proofs", "tokens", "revocation"},
		reason:    "a client is linked into other people's programs; it must not bring raft, a database or an HTTP server",
	},
	{
		dir:       "server",
		mayImport: []string{"identity", "revocation", "policy", "proofs", "outbound", "sessions", "audit", "tokens", "fsm", "cluster", "api", "api/wire", "client", "internal/privatefile"},
		reason:    "the composition root may hold everything below it and nothing above",
	},
	{
		dir:    "bench/result",
		reason: "what a benchmark found outlives the code that found it; were it to know that code, a change of the engine would change what old files mean",
	},
	{
		dir:       "bench/compare",
		mayImport: []string{"bench/result"},
		reason:    "runs are compared by what their files say, whenever and wherever they ran",
	},
	{
		dir:       "bench/report",
		mayImport: []string{"bench/result", "bench/compare"},
		reason:    "what is shown of a result is made from the result alone, or one from a file could not be shown",
	},
	{
		dir:    "bench/load",
		reason: "a generator knows requests and answers as bytes; were it to know what they mean, it would come to spare the server it measures",
	},
	{
		dir:       "bench",
		mayImport: []string{"identity", "revocation", "policy", "tokens", "fsm", "cluster", "api", "api/wire", "client", "server", "bench/load", "bench/result", "bench/report", "internal/machine"},
		reason:    "a benchmark measures the parts and the whole from outside; nothing but the command stands above it (of cluster it takes the figures of the protocols that it simulates)",
	},
	{
		dir:       "cmd/deputy",
		mayImport: []string{"identity", "policy", "policy/policytest", "audit", "api/wire", "tokens", "client", "server", "bench", "bench/load", "bench/result", "bench/report", "bench/compare", "internal/privatefile", "internal/machine"},
		reason:    "the command turns flags into options and answers into text; what it needs of the inner rooms it asks of server or over the wire",
	},
	{
		dir:       "internal/testcluster",
		mayImport: []string{"identity", "cluster", "api/wire", "client", "server"},
		reason:    "a cluster in one process starts what an operator starts; reaching around server would test something else",
	},
	{
		dir:    "internal/testbinary",
		reason: "what builds the binary for tests knows it as a command only",
	},
	{
		dir:       "internal/faults",
		mayImport: []string{"identity", "api/wire", "client", "internal/testbinary"},
		reason:    "the fault tests drive real binaries from outside, as a user would",
	},
	{
		dir:       "internal/interop",
		mayImport: []string{"identity", "api/wire", "client", "internal/testbinary"},
		reason:    "clients that others wrote are driven against real binaries from outside, as their users do; what they need of a node they ask over the wire",
	},
	{
		dir:       "internal/sim",
		mayImport: []string{"identity", "revocation", "policy", "tokens", "fsm", "cluster"},
		reason:    "the laboratory wires the parts that hold the promises the way server does, without the parts that need a socket or a real clock; nothing may stand on it",
	},
	{
		dir:    "internal/mutants",
		reason: "the mutation check knows the project as text and runs it as a command: were it to import a part, a broken part would break the check",
	},
	{
		dir:    "internal/archtest",
		reason: "the fences stand on nothing they fence",
	},
	{
		dir:       "deploy",
		mayImport: []string{"server"},
		reason:    "the samples are only read",
	},
}

// restricted says that a package may be imported in a few places only.
type restricted struct {
	path      string   // import path; those below it are meant as well
	rooms     []string // where it is welcome; empty: in tests only
	alsoTests bool     // tests of all other rooms may import it too
	testsOf   []string // tests of these rooms may import it too
	reason    string
}

var restrictions = []restricted{
	{
		path:      "github.com/valyala/fasthttp",
		rooms:     []string{"api", "proxy", "bench"},
		alsoTests: true,
		reason:    "its request buffers die with the handler; whoever sees one must know that rule (bench needs it for the ceiling it compares with)",
	},
	{
		path:   "github.com/fasthttp",
		rooms:  []string{"api", "proxy"},
		reason: "its request buffers die with the handler; whoever sees one must know that rule",
	},
	{
		path:    "github.com/lestrrat-go/jwx",
		rooms:   []string{"tokens"},
		testsOf: []string{"proofs"},
		reason:  "its parsers accept many spellings of one token and it is frozen by its authors; behind tokens it can be replaced (in the tests of proofs it is the judge: what is accepted there it must accept too)",
	},
	{
		path:      "github.com/hashicorp/raft",
		rooms:     []string{"cluster", "fsm", "bench", "internal/sim"},
		alsoTests: true,
		reason:    "others that hold raft types would decide by them, such as by LastContact, which proves nothing (bench and tests feed a state machine without a cluster; the laboratory gives raft a network and disks that fail)",
	},
	{
		path:   "github.com/hashicorp/raft-boltdb",
		rooms:  []string{"cluster"},
		reason: "the log's storage is a private matter of consensus",
	},
	{
		path:   "github.com/hashicorp/raft-autopilot",
		rooms:  []string{"cluster"},
		reason: "who votes is a private matter of consensus",
	},
	{
		path:   "go.etcd.io/bbolt",
		rooms:  []string{"cluster"},
		reason: "the log's storage is a private matter of consensus",
	},
	{
		path:   "github.com/hashicorp/memberlist",
		rooms:  []string{"cluster"},
		reason: "gossip carries keys and bytes; who knows their meaning must not know the carrier",
	},
	{
		path:   "github.com/cedar-policy/cedar-go",
		rooms:  []string{"policy"},
		reason: "a policy language is what policies are written in and no more; who decides by its types would decide beside the model's own rules (its parser, validator and syntax tree are still called experimental by their authors: behind policy they can change)",
	},
	{
		path:   "github.com/spf13/cobra",
		rooms:  []string{"cmd/deputy"},
		reason: "flags end where options begin",
	},
	{
		path:      "github.com/stretchr/testify",
		rooms:     []string{"internal/testcluster", "internal/faults"},
		alsoTests: true,
		reason:    "it is for tests and must not end up in the binary",
	},
	{
		path:      "github.com/getkin/kin-openapi",
		alsoTests: true,
		reason:    "it is the judge of our answers in tests and must not end up in the binary",
	},
	{
		path:      "github.com/santhosh-tekuri/jsonschema",
		alsoTests: true,
		reason:    "it is the judge of our answers in tests and must not end up in the binary",
	},
	{
		path:      "github.com/anishathalye/porcupine",
		alsoTests: true,
		reason:    "it judges histories in tests and must not end up in the binary",
	},
	{
		path:      "golang.org/x/oauth2",
		alsoTests: true,
		reason:    "it stands for the clients that others have, in tests, and must not end up in the binary",
	},
	{
		path:      "github.com/coreos/go-oidc",
		alsoTests: true,
		reason:    "it stands for the clients that others have, in tests, and must not end up in the binary",
	},
	{
		path:      "github.com/zitadel/oidc",
		alsoTests: true,
		reason:    "it stands for the clients that others have, in tests, and must not end up in the binary",
	},
	{
		path:      "pgregory.net/rapid",
		alsoTests: true,
		reason:    "it is for tests and must not end up in the binary",
	},
	{
		path:      "go.uber.org/goleak",
		alsoTests: true,
		reason:    "it is for tests and must not end up in the binary",
	},
	{
		path:      "testing",
		rooms:     []string{"internal/testcluster", "internal/faults", "internal/virtualtime"},
		alsoTests: true,
		reason:    "a binary that imports testing has its flags",
	},
	{
		path:   "testing/synctest",
		rooms:  []string{"internal/virtualtime"},
		reason: "in a bubble of its own the race detector dies now and then, and kills the process, where two timers fire at once; virtualtime.Test prevents it",
	},
	{
		path:      "unsafe",
		rooms:     []string{"tokens", "api", "revocation", "client", "bench/load"},
		alsoTests: true,
		reason:    "only where a measured hot path asks for it, or a system call that the standard library has no function for, in one small file that states the lifetime rule",
	},
}

// stdlibOnly are rooms that import the standard library and the rooms they may, but no other module than besides has.
var stdlibOnly = map[string]string{
	"identity":   "the domain must outlive every dependency",
	"proofs":     "what reads the bytes of strangers is to be read in full, and to mean what the RFCs say rather than what a library took them for",
	"policy":     "what decides about authority is to be read in full; of other people's code there is the language that policies are written in, and nothing else",
	"revocation": "the set is on every hot path and holds the promise of the project; nobody else's code belongs there",
	"sessions":   "it is filled at every mint and bounded by bytes that it counts itself",
	"api/wire":   "wire types are linked into other people's programs",
	"client":     "a client is linked into other people's programs and brings them no dependency",
}

// besides are the modules that such a room imports all the same.
var besides = map[string][]string{
	"policy": {"github.com/cedar-policy/cedar-go"},
}

// noOutside are packages of the standard library that a room without I/O does not import.
var noOutside = []string{
	"os", "os/exec", "os/signal", "net", "net/http", "io/fs", "path/filepath", "syscall", "log", "log/slog",
	"database/sql", "math/rand", "math/rand/v2", "crypto/rand",
}

// pure are rooms without I/O, clock and randomness.
var pure = map[string]string{
	"identity": "everything in the domain may run inside a replicated state machine",
	"policy":   "a decision must follow from its request alone, or it can't be explained afterwards",
	"proofs":   "what a token is worth must follow from its bytes, the keys and the time that was passed in, or no test could show it",
	"sessions": "the time comes with the session or the question, so that what has ended is one thing to all who ask",
}

// deterministic are rooms in which the same input gives the same state on every node.
var deterministic = map[string]string{
	"fsm": "replicas that read a clock or a die drift apart; times and ids enter before the log",
}

// stopwatches are files of such rooms that measure how long something took, for a metric or a log line, and
// keep the result out of the state.
var stopwatches = []string{"fsm/snapshot.go", "fsm/restore.go"}

// excused are package variables that hold state all the same, each with the reason why it does no harm.
var excused = map[string]string{
	"api.fieldCache":        "what it remembers of a type is a constant of the program",
	"testcluster.handedOut": "the ports that it counts are the machine's, whoever asks for them",
}

// Reasons of the habits that habits_test.go looks for.
const (
	reasonInit  = "init() runs before anybody could pass it an option, in an order nobody reads; use a constructor"
	reasonSleep = "a test that sleeps is slow when all is well and fails when the machine is busy; wait for the condition with a deadline, or use internal/virtualtime"
	reasonState = "package state can't be given to three nodes in one process; hold it in a value that somebody makes"
)

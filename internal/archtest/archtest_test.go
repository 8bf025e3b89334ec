package archtest

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestProjectKeepsItsFences(t *testing.T) {
	project := parseProject(t)
	for _, v := range project.fences() {
		t.Error(v)
	}
}

func TestProjectKeepsItsHabits(t *testing.T) {
	project := parseProject(t)
	for _, v := range project.habits() {
		t.Error(v)
	}
}

func TestFloorPlanPointsDownOnly(t *testing.T) {
	height := map[string]int{}
	for i, r := range rooms {
		require.NotContains(t, height, r.dir, "listed twice")
		require.NotEmpty(t, r.reason, r.dir)
		for _, dir := range r.mayImport {
			require.Contains(t, height, dir, "%s may import %s, which stands above it or nowhere", r.dir, dir)
		}
		height[r.dir] = i
	}
	for _, limit := range restrictions {
		require.NotEmpty(t, limit.reason, limit.path)
	}
}

func TestPlantedViolationIsCaught(t *testing.T) {
	const own = module + "/"
	for name, tc := range map[string]struct {
		file, text string
		says       []string
	}{
		"upward arrow":                     {"revocation/x.go", `import _ "` + own + `fsm"`, []string{"revocation/x.go:2 imports " + own + "fsm", "revocation may import identity of this project", "reason:"}},
		"domain in the cluster":            {"cluster/x.go", `import _ "` + own + `identity"`, []string{"cluster may import internal/privatefile of this project"}},
		"mint in a replayed log":           {"fsm/x.go", `import _ "` + own + `tokens"`, []string{"no side effect"}},
		"server from a handler":            {"api/x.go", `import _ "` + own + `server"`, []string{"close the circle"}},
		"wire is a room of its own":        {"api/wire/x.go", `import _ "` + own + `api"`, []string{"api/wire may import identity"}},
		"raft in a client":                 {"client/x.go", `import _ "github.com/hashicorp/raft"`, []string{"github.com/hashicorp/raft is for cluster, fsm, bench, internal/sim and for tests", "client imports the standard library only"}},
		"jwx in a test elsewhere":          {"api/x_test.go", `import _ "github.com/lestrrat-go/jwx/v2/jws"`, []string{"(a test)", "is for tokens and for tests of proofs only"}},
		"a version below a path":           {"api/x.go", `import _ "github.com/lestrrat-go/jwx/v2/jwt"`, []string{"is for tokens and for tests of proofs only"}},
		"the judge in the judged":          {"proofs/x.go", `import _ "github.com/lestrrat-go/jwx/v2/jwt"`, []string{"is for tokens and for tests of proofs only", "proofs imports the standard library only"}},
		"fasthttp in the wiring":           {"server/x.go", `import _ "github.com/valyala/fasthttp"`, []string{"is for api, proxy, bench"}},
		"module in the domain":             {"identity/x.go", `import _ "github.com/google/uuid"`, []string{"identity imports the standard library only"}},
		"I/O in the domain":                {"identity/x.go", `import _ "os"`, []string{"does no I/O"}},
		"dice in the state machine":        {"fsm/x.go", `import _ "math/rand/v2"`, []string{"fsm is deterministic"}},
		"test library in the binary":       {"server/x.go", `import _ "github.com/getkin/kin-openapi/openapi3"`, []string{"is for tests only"}},
		"package without a place":          {"util/x.go", ``, []string{"util is in no room"}},
		"clock in the state machine":       {"fsm/x.go", "import \"time\"\nvar x = time.Now", []string{"fsm/x.go:3 uses time.Now in fsm", "drift apart"}},
		"clock under another name":         {"policy/x.go", "import clock \"time\"\nfunc f() { _ = clock.Now() }", []string{"uses time.Now in policy"}},
		"init":                             {"api/x.go", `func init() {}`, []string{"api/x.go:2 declares init()"}},
		"bubble without care":              {"cluster/x_test.go", `import _ "testing/synctest"`, []string{"is for internal/virtualtime only"}},
		"sleep in a test":                  {"api/x_test.go", "import \"time\"\nfunc f() { time.Sleep(1) }", []string{"calls time.Sleep in a test"}},
		"counter of a package":             {"api/x.go", "var n int\nfunc f() { n++ }", []string{"package variable n is written to"}},
		"map of a package":                 {"api/x.go", "var m = map[int]int{}\nfunc f() { m[1] = 2 }", []string{"package variable m is written to"}},
		"lock of a package":                {"api/x.go", "import \"sync\"\nvar mu sync.Mutex", []string{"package variable mu is a sync.Mutex"}},
		"atomic of a package, with a type": {"api/x.go", "import \"sync/atomic\"\nvar p atomic.Pointer[int]", []string{"package variable p is a atomic.Pointer"}},
	} {
		t.Run(name, func(t *testing.T) {
			found := violationsOf(t, tc.file, tc.text)
			for _, says := range tc.says {
				require.Contains(t, found, says)
			}
		})
	}
}

func TestWhatIsAllowedPasses(t *testing.T) {
	const own = module + "/"
	for name, tc := range map[string]struct{ file, body string }{
		"downward arrow":             {"tokens/x.go", `import _ "` + own + `policy"`},
		"own subfolder":              {"cluster/sub/x.go", `import _ "` + own + `cluster"`},
		"tests import more":          {"tokens/x_test.go", `import _ "` + own + `revocation"`},
		"judge in tests of one room": {"proofs/x_test.go", `import _ "github.com/lestrrat-go/jwx/v2/jwt"`},
		"judge in a test":            {"api/x_test.go", `import _ "github.com/getkin/kin-openapi/openapi3"`},
		"near namesake":              {"client/x_test.go", `import _ "github.com/hashicorp/rafting"`},
		"pool":                       {"api/x.go", "import \"sync\"\nvar pool sync.Pool\nfunc f() { pool.Put(1) }"},
		"local of the same name":     {"api/x.go", "var n = 1\nfunc f() { n := 2; n++; _ = n }"},
		"sleep in virtual time":      {"cluster/x_test.go", "import (\n\"" + own + "internal/virtualtime\"\n\"time\"\n)\nfunc f() { virtualtime.Wait(); time.Sleep(1) }"},
		"method called init":         {"api/x.go", "type t struct{}\nfunc (t) init() {}"},
		"durations in state machine": {"fsm/x.go", "import \"time\"\nconst day = 24 * time.Hour"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Empty(t, violationsOf(t, tc.file, tc.body))
		})
	}
	require.Empty(t, violationsOfSource(t, "util/x.go", "//go:build ignore\n\npackage x\n"), "a file that is never built")
}

func violationsOf(t *testing.T, file, body string) string {
	t.Helper()
	return violationsOfSource(t, file, "package x\n"+body+"\n")
}

func violationsOfSource(t *testing.T, file, text string) string {
	t.Helper()
	planted, err := parse(fstest.MapFS{file: {Data: []byte(text)}})
	require.NoError(t, err)
	var all []string
	for _, v := range append(planted.fences(), planted.habits()...) {
		all = append(all, string(v))
	}
	return strings.Join(all, "\n")
}

func parseProject(t *testing.T) *tree {
	t.Helper()
	project, err := parse(os.DirFS("../.."))
	require.NoError(t, err)
	require.Greater(t, len(project.files), 50, "the walk found too little to mean anything")
	return project
}

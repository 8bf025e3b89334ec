package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

const (
	startWait  = 60 * time.Second // on a busy machine of two cores
	stopWait   = 30 * time.Second
	answerWait = 60 * time.Second // of one exchange with a node, or of one script
)

var announced = regexp.MustCompile(`(?s)export DEPUTY_ADDR=(\S+).*export DEPUTY_TOKEN=(\S+)`)

// node is one `deputy server --dev` process: a real node, with what it holds in memory.
type node struct {
	url   string
	token string
	*client.Client
	metadata wire.Metadata
}

// startNode starts a node, which ends with the test.
func startNode(t *testing.T) *node {
	t.Helper()
	path, err := workshop.Binary()
	require.NoError(t, err)
	output := &record{}
	cmd := exec.Command(path, "server", "--dev", "--listen", "127.0.0.1:0")
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home)
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended shows in its output
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(stopWait):
			_ = cmd.Process.Kill()
			<-exited
			t.Errorf("the node did not stop within %s", stopWait)
		}
		if t.Failed() {
			t.Logf("the node said:\n%s", output)
		}
	})

	n := &node{}
	require.Eventually(t, func() bool {
		select {
		case <-exited:
			return true
		default:
		}
		if found := announced.FindStringSubmatch(output.String()); found != nil {
			n.url, n.token = found[1], found[2]
		}
		return n.url != ""
	}, startWait, 20*time.Millisecond, "the node did not start")
	require.NotEmpty(t, n.url, "the node ended at once:\n%s", output)
	n.Client, err = client.New(client.Options{Addresses: []string{n.url}, Token: n.token})
	require.NoError(t, err)
	n.metadata = metadata(t, n.url)
	return n
}

// metadata is what a node says of itself (RFC 8414).
func metadata(t *testing.T, url string) (m wire.Metadata) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/.well-known/oauth-authorization-server", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", text)
	require.NoError(t, json.Unmarshal(text, &m))
	return m
}

// environment is what a program needs to speak to the node as its administrator.
func (n *node) environment() []string {
	return []string{"DEPUTY_ADDR=" + n.url, "DEPUTY_TOKEN=" + n.token}
}

// record keeps what a process writes, while it is read.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// run runs a program to its end, with the variables added to the environment, and returns what it wrote.
func run(t *testing.T, dir string, environment []string, stdin string, argv ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	cmd.Env = append(cmd.Env, environment...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, bytes.NewReader([]byte(stdin)), &out, &errOut
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("it ran for more than %s: %w", answerWait, err)
	}
	return out.String(), errOut.String(), err
}

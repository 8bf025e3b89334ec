package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds on the processes that a run starts.
const (
	startTimeout = 20 * time.Second // until a process says where it listens
	stopTimeout  = 10 * time.Second // between being asked to end and being killed
)

// process is a child of the run, pinned to its CPUs.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	cpus   []int
}

// start runs the binary on the given CPUs, with as many Go processors. It is ended by stop, or with ctx.
func start(ctx context.Context, binary string, args []string, cpus []int, env []string, stderr io.Writer) (*process, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	cmd.Stderr = stderr
	cmd.Env = append(os.Environ(), env...)
	if len(cpus) > 0 {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(len(cpus)))
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	if err := startPinned(cmd, cpus); err != nil {
		return nil, fmt.Errorf("starting %s %s: %w", binary, strings.Join(args, " "), err)
	}
	return &process{cmd: cmd, stdin: stdin, stdout: stdout, cpus: cpus}, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the process to end, and kills it where it doesn't in time.
func (p *process) stop() {
	p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already: as wanted
	kill := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait() // its status says only that it was asked to end
}

// kill ends the process at once, as a crash does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // gone already: as wanted
	_ = p.cmd.Wait()
}

// ceilingServer is the ceilings' process.
type ceilingServer struct {
	*process
	addresses ceilingAddresses
}

// startCeilings starts the ceilings on the CPUs; they know the tokens.
func startCeilings(ctx context.Context, binary string, o CeilingOptions, tokens []string, cpus []int, stderr io.Writer) (*ceilingServer, error) {
	args := []string{
		"bench", "ceiling-server",
		"--body-bytes", strconv.Itoa(o.BodyBytes), "--token-bytes", strconv.Itoa(o.TokenBytes),
	}
	if o.VerifyKey != "" {
		args = append(args, "--verify-key", o.VerifyKey)
	}
	for _, kind := range o.Kinds {
		args = append(args, "--kind", string(kind))
	}
	p, err := start(ctx, binary, args, cpus, nil, stderr)
	if err != nil {
		return nil, err
	}
	for _, token := range append(tokens, "") {
		if _, err := io.WriteString(p.stdin, token+"\n"); err != nil {
			p.stop()
			return nil, fmt.Errorf("%w: %w", errCeilingStart, err)
		}
	}
	server := &ceilingServer{process: p}
	if err := firstLine(p.stdout, &server.addresses); err != nil {
		p.stop()
		return nil, fmt.Errorf("%w: %w", errCeilingStart, err)
	}
	return server, nil
}

// firstLine reads one line of JSON, for startTimeout at most, and drops whatever follows it.
func firstLine(from io.ReadCloser, into any) error {
	return lineWithin(context.Background(), startTimeout, from, into)
}

// lineWithin reads one line of JSON within the timeout, or until ctx ends, and drops whatever follows it.
func lineWithin(ctx context.Context, timeout time.Duration, from io.ReadCloser, into any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { from.Close() })()
	reader := bufio.NewReader(from)
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("reading its first line: %w", err)
	}
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("reading its first line: %w", err)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }() // ends with the process
	return nil
}

// untilEnd serves until the parent has gone, with which in ends, or what is served has failed. Nothing more is said by
// then: what a scanner has read of in already is no loss.
func untilEnd(ctx context.Context, in io.Reader, failed <-chan error) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, in) // the end is what matters, however it comes
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

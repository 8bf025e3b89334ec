package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// Exit codes, which scripts rely on.
const (
	exitDone        = 0
	exitFailed      = 1 // refused, or failed
	exitUsage       = 2
	exitUnreachable = 3
)

// Environment of the command line. A token has no flag: what stands on a command line is read by every user
// of the machine.
const (
	envAddress      = "DEPUTY_ADDR"
	envToken        = "DEPUTY_TOKEN"
	envClientID     = "DEPUTY_CLIENT_ID"
	envClientSecret = "DEPUTY_CLIENT_SECRET"
)

const defaultAddress = "http://127.0.0.1:8401"

// app is one invocation of the program.
type app struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	now func() time.Time

	args    []string
	output  string
	address string
	timeout time.Duration
	// patience is what a command allows for beyond timeout, as it knows that its answer takes long.
	patience time.Duration
	// unanswered is what to do about a command whose answer does not come in time.
	unanswered string

	anonymous bool // no API token is at hand
	started   bool // the command line was understood, so that what fails from here on is not its usage
}

// run is the whole program but for the process around it.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{in: in, out: out, err: errOut, now: time.Now}
	// Notify also undoes the ignored SIGINT that a shell without job control gives to background processes.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	a.args = args
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err != nil {
		a.complain(err)
	}
	return a.exitCode(err)
}

func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "deputy",
		Short: "Identity, delegation and revocation for AI agents",
		Long: `Deputy gives AI agents an identity of their own, lets people lend them a slice of their authority
for a while, and stops them when somebody says so.

The commands ask the nodes in ` + envAddress + ` (several, separated by commas; the next one is asked where one
can't answer) with the API token in ` + envToken + `. Where neither is set, a running 'deputy server --dev' of
the same user is found by itself.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no node could be reached.`,
		Example: `  deputy server --dev
  deputy agent create support-triage-agent --scope zendesk.tickets.read
  deputy agent list -o json
  deputy agent kill support-triage-agent --reason INC-42`,
		SilenceErrors: true,
		SilenceUsage:  true,
	},
		a.serverCommand(), a.demoCommand(),
		a.agentCommand(), a.principalCommand(), a.applicationCommand(),
		a.delegationCommand(), a.sessionCommand(), a.tokenCommand(), a.revocationCommand(),
		a.issuerCommand(), a.consentCommand(), a.policyCommand(), a.auditCommand(), a.approvalCommand(),
		a.clusterCommand(), a.apiTokenCommand(), a.bulkCommand(), a.benchCommand(), a.versionCommand(),
	)
	flags := root.PersistentFlags()
	flags.StringVarP(&a.output, "output", "o", formatTable, "output format: table, json or yaml")
	flags.StringVar(&a.address, "addr", "", "addresses of nodes, separated by commas (default $"+envAddress+", then "+defaultAddress+")")
	flags.DurationVar(&a.timeout, "timeout", 30*time.Second, "give up after this long, beyond what a command such as kill waits for by itself")
	mustComplete(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp)))
	return root
}

// group makes a command that only holds others. Without it cobra would answer an unknown verb with help and
// success.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.AddCommand(children...)
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		message := fmt.Sprintf("%q has no command %q", cmd.CommandPath(), args[0])
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			message += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usagef("%s (%s --help lists them)", message, cmd.CommandPath())
	}
	return c
}

// before has a command run check once its command line is read, after the checks that it has already: cobra
// itself keeps one PreRunE, and ignores PreRun beside it.
func before(cmd *cobra.Command, check func() error) {
	earlier := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if earlier != nil {
			if err := earlier(cmd, args); err != nil {
				return err
			}
		}
		return check()
	}
}

// waits lets a command go on for d beyond --timeout.
func (a *app) waits(cmd *cobra.Command, d time.Duration) {
	before(cmd, func() error {
		a.patience = max(a.patience, d)
		return nil
	})
}

// does makes the RunE of a command that asks the cluster.
func (a *app) does(act func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := a.checkFormat(); err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		a.started = true
		ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout+a.patience)
		defer cancel()
		return late(ctx, act(ctx, c, args), a.timeout+a.patience)
	}
}

// client makes the client that flags, environment and a running dev server ask for, in that order.
func (a *app) client() (*client.Client, error) {
	o, err := a.clientOptions()
	if err != nil {
		return nil, err
	}
	return newClient(o)
}

// newClient makes one of options that came from the command line.
func newClient(o client.Options) (*client.Client, error) {
	c, err := client.New(o)
	if err != nil {
		return nil, &usageError{err.Error()}
	}
	return c, nil
}

// clientOptions say which nodes to speak to, and by which token.
func (a *app) clientOptions() (client.Options, error) {
	addresses := a.addresses()
	token := os.Getenv(envToken)
	if len(addresses) == 0 || token == "" {
		dev, err := readDevAccess()
		if err != nil {
			return client.Options{}, err
		}
		if len(addresses) == 0 && dev != nil {
			addresses = []string{dev.Address}
		}
		// The dev server's token is only for the dev server: never show it to anybody else.
		if token == "" && dev != nil && len(addresses) == 1 && sameAddress(addresses[0], dev.Address) {
			token = dev.Token
		}
	}
	if len(addresses) == 0 {
		addresses = []string{defaultAddress}
	}
	token = strings.TrimSpace(token)
	a.anonymous = token == ""
	return client.Options{Addresses: addresses, Token: token, UserAgent: "deputy/" + version()}, nil
}

func (a *app) addresses() []string {
	list := a.address
	if list == "" {
		list = os.Getenv(envAddress)
	}
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func sameAddress(one, other string) bool {
	a, errA := client.ParseAddress(one)
	b, errB := client.ParseAddress(other)
	return errA == nil && errB == nil && *a == *b
}

// usageError says that the command line was wrong.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// lateError says that the time that a command has ran out.
type lateError struct {
	error
	within time.Duration
}

func (e *lateError) Error() string {
	words := fmt.Sprintf("no answer within %s", e.within)
	if unreachable := (*client.UnreachableError)(nil); errors.As(e.error, &unreachable) {
		return replaceEnd(e.error, unreachable, words)
	}
	return replaceEnd(e.error, context.DeadlineExceeded, words)
}

func (e *lateError) Unwrap() error { return e.error }

// late tells an answer that did not come while ctx lasted from a node that can't be reached, which may time out too.
func late(ctx context.Context, err error, within time.Duration) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
		return &lateError{err, within}
	}
	return err
}

func (a *app) exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, new(*usageError)) || !a.started:
		return exitUsage
	case errors.As(err, new(*client.UnreachableError)), errors.As(err, new(*lateError)):
		return exitUnreachable
	}
	return exitFailed
}

// complain says what is wrong and what to do next, in words for a person.
func (a *app) complain(err error) {
	var refused *client.Error
	var known *identity.Error
	message, hint := err.Error(), ""
	var fields []identity.FieldError
	switch {
	case errors.As(err, &refused):
		hint, fields = refused.Hint, refused.Fields
		if refused.Detail != "" {
			message = replaceEnd(err, refused, refused.Detail)
		}
		if refused.Status == http.StatusUnauthorized && refused.OAuth == "" && a.anonymous {
			hint = "set " + envToken + " to an API token"
		}
	case errors.As(err, &known):
		hint, fields = known.Hint, known.Fields
		message = replaceEnd(err, known, known.Message)
	case errors.As(err, new(*lateError)):
		hint = cmp.Or(a.unanswered, "--timeout waits longer")
	case errors.As(err, new(*client.UnreachableError)):
		hint = "is a node running there? `deputy server --dev` starts one; " + envAddress + " or --addr names others"
	case errors.Is(err, context.Canceled):
		message = "interrupted"
	}
	fmt.Fprintf(a.err, "error: %s\n", printable(message))
	if died := (*nodeDiedError)(nil); errors.As(err, &died) {
		fmt.Fprintf(a.err, "the last lines of %s:\n", died.log)
		for line := range strings.Lines(died.tail) {
			fmt.Fprintf(a.err, "  %s\n", printable(strings.TrimSpace(line)))
		}
	}
	for _, f := range fields {
		fmt.Fprintf(a.err, "  %s %s\n", printable(f.Pointer), printable(f.Detail))
	}
	if hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", printable(hint))
	}
	if refused != nil && refused.Status >= 500 && refused.RequestID != "" {
		fmt.Fprintf(a.err, "request %s at %s\n", printable(refused.RequestID), refused.Address)
	}
}

// replaceEnd is err's text with inner's share of it, at its end, put in other words.
func replaceEnd(err, inner error, words string) string {
	before, found := strings.CutSuffix(err.Error(), inner.Error())
	if !found {
		return err.Error()
	}
	return before + words
}

// readFile reads a file, or standard input for "-", up to a bound.
func (a *app) readFile(path string, most int64) ([]byte, error) {
	source := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		source = f
	}
	text, err := io.ReadAll(io.LimitReader(source, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return text, nil
}

// readBody reads a request body, to be sent as it stands: the node says what is wrong with it.
func (a *app) readBody(path string) (json.RawMessage, error) {
	text, err := a.readFile(path, wire.MaxBodyBytes)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, fmt.Errorf("%s is empty; it should hold the JSON that the API takes", path)
	}
	return text, nil
}

// seconds turns a duration of the command line into what the API counts in.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func mustComplete(err error) {
	if err != nil {
		panic("BUG: completion of a flag that is not there: " + err.Error())
	}
}

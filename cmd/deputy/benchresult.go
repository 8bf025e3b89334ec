package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/bench"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/bench/result"
)

// finding is what a benchmark ends with.
type finding struct {
	result *result.Result
	table  func(io.Writer) error // nil for that of all results
}

// resultFiles are where a result goes besides the terminal.
type resultFiles struct {
	json, html string
	disk       string // folder whose disk's fsync is timed, where the run had none of its own
}

// measure makes the RunE of a benchmark that finds a result, and the flags of where it goes: the result is shown also
// beside an error, such as one of cleaning up. Require is nil where nothing is asked for.
func (a *app) measure(cmd *cobra.Command, require *bool, act func(context.Context, *report.Progress, *slog.Logger) (finding, error)) {
	var files resultFiles
	flags := cmd.Flags()
	flags.StringVar(&files.json, "json", "", "write the result to this file as well, for bench compare and bench report")
	flags.StringVar(&files.html, "html", "", "write the result to this file as a page of HTML that needs nothing else")
	flags.StringVar(&files.disk, "fsync-dir", "", "folder whose disk's fsync is timed, unless the run brings up nodes with disks of their own (default the one for temporary files)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.output != formatTable && a.output != formatJSON {
			return usagef("--output is %q; a benchmark has %s and %s", a.output, formatTable, formatJSON)
		}
		if err := files.check(); err != nil {
			return err
		}
		a.started = true
		progress := a.progress()
		begun := a.now()
		found, err := act(cmd.Context(), progress, a.messages(progress))
		progress.Done()
		if found.result == nil {
			return err
		}
		a.stamp(found.result, begun)
		err = errors.Join(err, files.time(found.result), a.showFinding(found), files.write(found.result), invalidRun(found.result))
		if err == nil && require != nil && *require && !met(found.result) {
			return errMissed
		}
		return err
	}
}

// stamp adds what the command knows and the benchmark doesn't.
func (a *app) stamp(r *result.Result, begun time.Time) {
	r.Command = append(scheduler(&r.Environment), commandOf(a.args)...)
	r.Started, r.Seconds = begun, a.now().Sub(begun).Seconds()
	r.Environment.Version = version()
	if r.Environment.Commit == "" {
		r.Environment.Commit = buildCommit
	}
	if r.Runs == 0 {
		r.Runs = 1
	}
}

// scheduler is what a command line begins with that has the run scheduled in another way than is usual: without it the
// same command finds other figures. It is empty where chrt(1) can't do that by policy and priority alone.
func scheduler(e *result.Environment) []string {
	policy, priority, _ := strings.Cut(e.Policy(), " ")
	if e.Policy() == result.OrdinaryScheduling || !slices.Contains([]string{"rr", "fifo", "batch", "idle"}, policy) {
		return nil
	}
	if _, err := strconv.Atoi(priority); err != nil { // a nice value as well
		return nil
	}
	return []string{"chrt", "--" + policy, priority}
}

// commandOf is the command line without what must not be kept: a password in a URL. Tokens are never on it.
func commandOf(args []string) []string {
	command := []string{"deputy"}
	for _, arg := range args {
		parts := strings.Split(arg, ",")
		for i, part := range parts {
			name, address, ok := strings.Cut(part, "=")
			if !ok || !strings.HasPrefix(name, "--") {
				name, address = "", part
			} else {
				name += "="
			}
			if u, err := url.Parse(address); err == nil && u.User != nil {
				parts[i] = name + u.Redacted()
			}
		}
		command = append(command, strings.Join(parts, ","))
	}
	return command
}

func (a *app) showFinding(f finding) error {
	switch {
	case a.output == formatJSON:
		return f.result.Write(a.out)
	case f.table != nil:
		return f.table(a.out)
	}
	return report.Table(a.out, f.result)
}

// check finds a file that can't be written before minutes are spent on what goes into it.
func (f *resultFiles) check() error {
	for _, name := range []string{f.json, f.html} {
		if name == "" {
			continue
		}
		file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return usagef("the result can't be written: %v", err)
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}

// time measures the disk after the run, so as not to disturb it.
func (f *resultFiles) time(r *result.Result) (err error) {
	if r.Environment.Fsync != nil {
		return nil
	}
	dir, where := f.disk, "folder of --fsync-dir"
	if dir == "" {
		dir, where = os.TempDir(), "folder for temporary files of the generator's machine"
	}
	r.Environment.Fsync, err = bench.MeasureFsync(dir, where)
	return err
}

func (f *resultFiles) write(r *result.Result) error {
	var err error
	if f.json != "" {
		err = r.WriteFile(f.json)
	}
	if f.html != "" {
		err = errors.Join(err, writePage(f.html, r))
	}
	return err
}

// met reports whether a valid run was asked for something, and found all of it.
func met(r *result.Result) bool {
	asked, kept := 0, 0
	for i := range r.Subjects {
		for _, share := range r.Subjects[i].Shares {
			if share.Met != nil {
				asked++
				if *share.Met {
					kept++
				}
			}
		}
	}
	if r.SLO != nil {
		asked++
		if r.SLO.Met {
			kept++
		}
	}
	return r.Verdict.Valid && asked > 0 && kept == asked
}

// progress shows how a run stands, unless the output is for a machine.
func (a *app) progress() *report.Progress {
	if a.output == formatJSON {
		return nil
	}
	return report.NewProgress(a.err, terminalWidth(a.err), time.Now)
}

// messages is where a run logs to: above its progress, if that is shown.
func (a *app) messages(p *report.Progress) *slog.Logger {
	return slog.New(slog.NewTextHandler(p.Or(a.err), nil))
}

// Failures of a run that ended as it should.
var (
	errInvalid = errors.New("the run is INVALID: its figures are the generator's, not the servers'")
	errWrong   = errors.New("wrong answers were given")
)

// invalidRun is the failure of a run whose figures are not to be quoted, or that found wrong answers.
func invalidRun(r *result.Result) error {
	if !r.Verdict.Valid {
		return errInvalid
	}
	for i := range r.Subjects {
		if n := r.Subjects[i].Wrong(); n > 0 {
			return fmt.Errorf("%w: %d of %s", errWrong, n, r.Subjects[i].Name)
		}
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/bench/compare"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/bench/result"
)

// errRegressed is the failure of a comparison that went well and found something worse.
var errRegressed = errors.New("something that was measured became worse")

func (a *app) benchCompare() *cobra.Command {
	var base, fresh []string
	var tolerance string
	var o compare.Options
	cmd := &cobra.Command{
		Use:   "compare [BASE NEW...]",
		Short: "Say whether a benchmark became better or worse, or is within noise",
		Long: `Compare results that --json has written: each is a file, or a folder of files. With several runs a side, name
them by --base and --new. Without those, the first is the base, and each of the others is compared with it.

A figure became better or worse where

  1. no run of one side lies between the least and the largest of the other, and
  2. the medians differ by more than --tolerance of the base's (errors: also by more than 0.01 % of the requests).

Anything else is within noise. With one run a side the first half of the rule is no help: take three or more. Rates of
ceilings tell what the machine did; they are shown, warned of, and never a regression.

Invalid runs are refused. Runs of different workloads, or of an open and a closed load, can't be compared; those of
different machines can, with a warning. Exit code 1 says that something became worse.`,
		Example: `  deputy bench compare before.json after.json
  deputy bench compare --base a1.json,a2.json,a3.json --new b1.json,b2.json,b3.json
  deputy bench compare --base runs/v1 --new runs/v2 --tolerance 3% --metric p99,share`,
		Args: func(_ *cobra.Command, args []string) error {
			switch named := len(base) > 0 || len(fresh) > 0; {
			case named && len(args) > 0:
				return usagef("%q is given beside --base and --new; name it in one of them", args[0])
			case named && (len(base) == 0 || len(fresh) == 0):
				return usagef("--base and --new belong together")
			case !named && len(args) < 2:
				return usagef("two results are needed, the base and the new one (or --base FILES --new FILES)")
			}
			return nil
		},
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := a.checkFormat(); err != nil {
			return err
		}
		var err error
		if o.Tolerance, err = parsePercent(tolerance); err != nil {
			return usagef("--tolerance is %q; it is a share such as 5%%", tolerance)
		}
		a.started = true
		if len(args) == 0 {
			return a.compareSides(base, [][]string{fresh}, o)
		}
		sides := make([][]string, 0, len(args)-1)
		for _, name := range args[1:] {
			sides = append(sides, []string{name})
		}
		return a.compareSides(args[:1], sides, o)
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&base, "base", nil, "files or folders of the runs before")
	flags.StringSliceVar(&fresh, "new", nil, "files or folders of the runs after")
	flags.StringVar(&tolerance, "tolerance", fmt.Sprintf("%.0f%%", 100*compare.DefaultTolerance), "how far medians may differ without meaning anything")
	flags.StringSliceVar(&o.Metrics, "metric", nil, "figures to compare: rate, p50, p99, p99.9, share, cpu, allocs, errors (default all)")
	flags.BoolVar(&o.AllowInvalid, "allow-invalid", false, "compare invalid runs too, with a warning")
	return cmd
}

func (a *app) compareSides(base []string, sides [][]string, o compare.Options) error {
	before, err := result.ReadAll(base...)
	if err != nil {
		return err
	}
	regressed := false
	for i, side := range sides {
		after, err := result.ReadAll(side...)
		if err != nil {
			return err
		}
		c, err := compare.Compare(before, after, o)
		if err != nil {
			return err
		}
		regressed = regressed || c.Regressed
		switch a.output {
		case formatJSON:
			err = writeJSON(a.out, c)
		case formatYAML:
			err = writeYAML(a.out, c)
		default:
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			err = report.Comparison(a.out, c)
		}
		if err != nil {
			return err
		}
	}
	if regressed {
		return errRegressed
	}
	return nil
}

// parsePercent reads a share such as 5% or 0.05.
func parsePercent(text string) (float64, error) {
	digits, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil {
		return 0, err
	}
	if percent {
		f /= 100
	}
	return f, nil
}

package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strconv"

	"github.com/deputy-id/deputy/bench/result"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// page is what the template is filled with.
type page struct {
	Title     string
	About     string
	Style     template.CSS
	Valid     bool
	Reasons   []string
	SLO       string
	SLOMet    bool
	Command   string
	Load      string
	Tiles     []tile
	Notes     []string
	Sections  []section
	Facts     []fact
	Generated string
}

// tile is one of the figures at the top.
type tile struct{ Name, Value, Beside string }

// section is a picture with its table, or a table alone.
type section struct {
	Heading string
	Words   string
	Picture *picture
	Grids   []grid
	Folded  bool // the tables are long, and shown on demand
	Named   bool // the heading says what the table is
}

// HTML writes a result as one page that needs nothing else: no script, no font, no picture from elsewhere.
func HTML(w io.Writer, r *result.Result) error {
	t, err := template.New("page").Funcs(template.FuncMap{"n": number, "text": func(g grid, column int) bool { return column < g.Texts }}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("BUG: the page's template: %w", err)
	}
	sections, err := sectionsOf(r)
	if err != nil {
		return err
	}
	p := page{
		Title: title(r), About: capital(r.About), Style: template.CSS(pageStyle), Valid: r.Verdict.Valid, Reasons: r.Verdict.Reasons,
		Command: CommandLine(r.Command), Load: capital(loadLine(r)) + ".", Tiles: tiles(r), Notes: r.Notes, Sections: sections,
		Facts: facts(r), Generated: r.Started.UTC().Format("2 January 2006, 15:04 UTC"),
	}
	if r.SLO != nil {
		p.SLO, p.SLOMet = sloLine(r), r.SLO.Met
	}
	return t.Execute(w, &p)
}

// tiles are of the first subject: the one that the run is about.
func tiles(r *result.Result) []tile {
	if len(r.Subjects) == 0 {
		return nil
	}
	s := &r.Subjects[0]
	rate := tile{"Completed", Count(s.Rate) + "/s", ""}
	if r.Load.Model == result.Open && s.Seconds > 0 {
		rate.Beside = "of " + Count(float64(s.Counts.Offered)/s.Seconds) + "/s offered"
	}
	list := []tile{rate}
	if d := s.Latency; d != nil && d.Count > 0 {
		list = append(list, tile{"p50", Latency(d.P50), ""}, tile{"p99", Latency(d.P99), ""}, tile{"p99.9", Latency(d.P999), "max " + Latency(d.Max)})
	}
	if s.Counts.Offered > 0 {
		bad := s.Counts.Failed + s.Counts.Skipped
		errors := tile{"Errors", Percent(float64(bad) / float64(s.Counts.Offered)), Count(float64(bad)) + " of " + Count(float64(s.Counts.Offered))}
		if wrong := s.Wrong(); wrong > 0 {
			errors.Beside = Count(float64(wrong)) + " wrong answers"
		}
		list = append(list, errors)
	}
	if len(s.Shares) > 0 {
		list = append(list, tile{"Share", Ratio(s.Shares[0].Rounds.Median), "of " + s.Shares[0].Of})
	}
	return list
}

func sectionsOf(r *result.Result) ([]section, error) {
	var list []section
	for i := range r.Subjects {
		s := &r.Subjects[i]
		if p := timeline("time-"+strconv.Itoa(i), s, r); p != nil {
			list = append(list, section{Heading: "Over time: " + s.Name, Picture: p, Grids: []grid{timelineGrid(s)}, Folded: true})
		}
	}
	if len(list) == 0 {
		list = append(list, section{Heading: "Over time", Words: "This run kept no time series: its subjects took turns in short rounds."})
	}
	if g := faultGrid(r); len(g.Rows) > 0 {
		list = append(list, section{Heading: g.Title, Grids: []grid{g}, Named: true})
	}
	curve, err := percentileCurve("curve", r)
	if err != nil {
		return nil, err
	}
	list = append(list, section{Heading: "Latency by percentile", Picture: curve, Grids: []grid{latencyGrid(r)}})
	bars := section{Heading: "Ceilings", Picture: ceilingBars("bars", r)}
	for _, g := range []grid{shareGrid(r), speedGrid(r)} {
		if len(g.Rows) > 0 {
			bars.Grids = append(bars.Grids, g)
		}
	}
	if bars.Picture == nil {
		bars.Heading = "Rates"
	}
	list = append(list, bars)
	if p := stepPicture("steps", r); p != nil {
		list = append(list, section{Heading: "Steps", Picture: p, Grids: []grid{stepGrid(r)}})
	}
	for _, g := range []grid{sloGrid(r), countGrid(r), errorGrid(r), nodeGrid(r), runGrid(r)} {
		if len(g.Rows) > 0 {
			list = append(list, section{Heading: g.Title, Grids: []grid{g}, Named: true})
		}
	}
	return list, nil
}

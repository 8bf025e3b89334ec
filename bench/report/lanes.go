package report

import (
	"fmt"
	"slices"

	"github.com/deputy-id/deputy/bench/result"
)

// lane is what happened to one node.
type lane struct {
	node   string
	faults []result.Fault
	away   []span // killed, stalled or removed
	leads  []span
}

type span struct {
	from, to float64
	open     bool // it had not ended when the run did; to means nothing
	what     string
}

// lanesOf gives each node that something happened to a lane of its own, in the order that things happened.
func lanesOf(r *result.Result) []*lane {
	var lanes []*lane
	of := func(node string) *lane {
		for _, l := range lanes {
			if l.node == node {
				return l
			}
		}
		lanes = append(lanes, &lane{node: node})
		return lanes[len(lanes)-1]
	}
	faults := slices.Clone(r.Faults)
	slices.SortStableFunc(faults, func(a, b result.Fault) int {
		if a.T < b.T {
			return -1
		}
		if a.T > b.T {
			return 1
		}
		return 0
	})
	var leader *lane
	endLead := func(t float64) {
		if leader != nil {
			last := &leader.leads[len(leader.leads)-1]
			last.to, last.open = t, false
			leader = nil
		}
	}
	for _, f := range faults {
		l := of(f.Node)
		l.faults = append(l.faults, f)
		switch f.What {
		case result.FaultKilled, result.FaultRemoved, result.FaultStalled:
			// A stall ends by itself. What was killed is away until it is started again, however soon killing it was done.
			s := span{from: f.T, open: true, what: string(f.What)}
			if f.End != nil && f.What == result.FaultStalled {
				s.to, s.open = *f.End, false
			}
			l.away = append(l.away, s)
			if l == leader && f.What != result.FaultStalled {
				endLead(f.T)
			}
		case result.FaultStarted, result.FaultJoined:
			if n := len(l.away); n > 0 && l.away[n-1].open {
				l.away[n-1].to, l.away[n-1].open = f.T, false
			}
		case result.FaultLeaderChanged:
			endLead(f.T)
			leader = l
			l.leads = append(l.leads, span{from: f.T, open: true, what: "leader"})
		}
	}
	return lanes
}

// faultClass is the class of a kind of fault; a kind that this version does not know has none of its own.
func faultClass(kind result.FaultKind) string {
	switch kind {
	case result.FaultKilled, result.FaultRemoved:
		return "gone"
	case result.FaultStalled:
		return "stalled"
	case result.FaultStarted, result.FaultJoined:
		return "back"
	case result.FaultLeaderChanged:
		return "leader"
	}
	return "other"
}

// labelRoom is how far apart two faults of a lane must be for the first to have its name beside it.
const labelRoom = 74

func (p *picture) lanePanel(t *axis, lanes []*lane, top, end float64) {
	if len(lanes) == 0 {
		return
	}
	p.text("panel", plotLeft, top-10, "what happened to the nodes")
	for i, l := range lanes {
		y := top + float64(i*laneHeight) + laneHeight/2
		p.line("lane", t.from, y, t.to, y)
		p.text("tick end", plotLeft-8, y+4, short(l.node, 10))
		for _, s := range l.leads {
			p.band("leads", t, s, y, 6, end, l.node)
		}
		for _, s := range l.away {
			p.band("away "+faultClass(result.FaultKind(s.what)), t, s, y, 12, end, l.node)
		}
		for j := range l.faults {
			f := &l.faults[j]
			x := t.at(f.T)
			tip := fmt.Sprintf("%.1f s: %s %s", f.T, f.Node, f.What)
			if f.Detail != "" {
				tip += ", " + f.Detail
			}
			p.circle("mark "+faultClass(f.What), x, y, 5, tip)
			next := t.to + 60
			if j+1 < len(l.faults) {
				next = t.at(l.faults[j+1].T)
			}
			if next-x >= labelRoom {
				p.text("fault", x+9, y+4, short(string(f.What), 16))
			}
		}
	}
}

func (p *picture) band(class string, t *axis, s span, y, height, end float64, node string) {
	to := s.to
	until := Seconds(to - s.from)
	if s.open {
		to, until = end, "until the end"
	}
	p.rect(class, t.at(s.from), y-height/2, t.at(to)-t.at(s.from), height, fmt.Sprintf("%s %s: %s", node, s.what, until))
}

// short keeps a name from running out of the picture; it is in full in the table.
func short(text string, most int) string { return fit(text, most) }

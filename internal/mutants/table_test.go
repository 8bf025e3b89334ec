package mutants

import "fmt"

// mutant is a rule and how it is broken.
type mutant struct {
	name   string
	file   string // from the root of the repository
	edits  []edit
	suites []suite // of which one must notice
}

// edit replaces the one occurrence of a text.
type edit struct{ old, new string }

// suite is a run of tests.
type suite struct {
	name    string
	pkg     string
	run     string
	env     []string
	promise bool // it is caught only by a promise of internal/sim that is named as broken
}

// simulation is schedules of internal/sim, always the same ones.
func simulation(schedules int) suite {
	return suite{
		name: fmt.Sprintf("sim, %d schedules", schedules), pkg: "./internal/sim", run: "^TestPromisesHoldUnderFaults$",
		env: []string{fmt.Sprintf("DEPUTY_SIM_SCHEDULES=%d", schedules), "DEPUTY_SIM_SEED=1"}, promise: true,
	}
}

func unit(pkg, run string) suite { return suite{name: run, pkg: pkg, run: "^" + run + "$"} }

var table = []mutant{
	{
		name: "lease counted from receipt",
		file: "cluster/leaserounds.go",
		edits: []edit{{
			"until: asked + min(duration, l.o.Duration())",
			"until: l.o.Now() + min(duration, l.o.Duration())",
		}},
		suites: []suite{unit("./cluster", "TestLeaseCountsFromTheQuestionNotTheAnswer"), simulation(60)},
	},
	{
		name: "lease by an applied index, without a tick",
		file: "cluster/ticks.go",
		edits: []edit{
			{"	running bool\n}", "	running bool\n	last    uint64\n}"},
			{
				"		round.index, round.err = t.propose(ctx)\n",
				"		if t.last == 0 {\n			t.last, round.err = t.propose(ctx)\n		}\n		round.index = t.last\n",
			},
		},
		suites: []suite{simulation(60)},
	},
	{
		name: "tick proposed before the request arrived",
		file: "cluster/ticks.go",
		edits: []edit{
			{"		t.next = nil\n		if round == nil {", "		if round == nil {"},
			{"		cancel()\n		close(round.done)", "		cancel()\n		t.mu.Lock()\n		t.next = nil\n		t.mu.Unlock()\n		close(round.done)"},
		},
		suites: []suite{unit("./cluster", "TestTickIsProposedAfterTheRequestArrived")},
	},
	{
		name: "acknowledgement of a deny counted as fence",
		file: "server/fence.go",
		edits: []edit{
			{"Expires: identity.Instant(e.Expires)}", "Expires: identity.Instant(e.Expires), Provisional: true}"},
			{"	if err := s.fsm.WaitApplied(ctx, f.Index); err != nil {\n		return nil, err\n	}\n", ""},
		},
		suites: []suite{unit("./server", "TestFenceForAStateIsNotAcknowledgedBeforeThatStateIsServed")},
	},
	{
		name: "remove without waiting for the lease",
		file: "server/removal.go",
		edits: []edit{{
			"	if err := s.silence(ctx, id, barred.Index); err != nil {\n		return nil, 0, err\n	}\n",
			"	_ = barred\n",
		}},
		suites: []suite{unit("./server", "TestRemovalWaitsForTheLeaseOfASilentNode")},
	},
	{
		name: "fence ignores one non-voter",
		file: "cluster/fence.go",
		edits: []edit{{
			"	return f.RaiseFor(ctx, f.o.Members(), index, payload)\n",
			"	members := f.o.Members()\n	return f.RaiseFor(ctx, members[:max(1, len(members)-1)], index, payload)\n",
		}},
		suites: []suite{simulation(60)},
	},
	{
		name: "restore keeps keys",
		file: "fsm/apply_membership.go",
		edits: []edit{{
			"		s.deny(\"the cluster was recovered after it had lost its quorum\", identity.KeyHandle(k.KID))\n		s.dropKey(k.KID)\n",
			"		_ = k\n",
		}},
		suites: []suite{unit("./fsm", "TestTranscripts")},
	},
	{
		name: "snapshot install replaces the set",
		file: "fsm/restore.go",
		edits: []edit{{
			"	s := l.finish()\n",
			"	f.set.Purge(endOfTime + 1)\n	s := l.finish()\n",
		}},
		suites: []suite{unit("./fsm", "TestRestoringNeverTakesARevocationAway")},
	},
	{
		name: "generation not bumped",
		file: "fsm/apply_agents.go",
		edits: []edit{{
			"	s.deny(reason, h)\n	row.Generation = s.nextGeneration()\n",
			"	s.deny(reason, h)\n",
		}},
		suites: []suite{simulation(60)},
	},
	{
		name: "set entry expiring by the proposer's clock",
		file: "fsm/apply.go",
		edits: []edit{{
			"	s.time = max(s.time, min(c.Time, endOfTime))\n",
			"	s.time = min(c.Time, endOfTime)\n",
		}},
		suites: []suite{unit("./fsm", "TestTimeNeverGoesBack")},
	},
}

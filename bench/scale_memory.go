package bench

import (
	"fmt"
)

// What an object takes at the most, as the report shows it, to reckon with before a run.
const (
	agentBytes      = 950
	principalBytes  = 300
	delegationBytes = 260
	revocationBytes = 64
)

// memoryNeed is what a run needs at its height, in bytes: two stores while the snapshot is restored, what restoring takes
// beside them, and what the collector has not come round to.
func (o *ScaleOptions) memoryNeed() int64 {
	return 5 * o.storeBytes() / 2
}

// storeBytes is about what the store takes.
func (o *ScaleOptions) storeBytes() int64 {
	return 32<<20 + int64(o.Agents)*agentBytes + int64(o.Delegations)/delegationsPerPrincipal*principalBytes +
		int64(o.Delegations)*delegationBytes + int64(o.Revocations)*revocationBytes
}

// diskNeed is what a data folder of the store needs at its height: the log, and two snapshots beside one that is written.
func (o *ScaleOptions) diskNeed() int64 {
	const logged, snapshot = 600, 400
	return 256<<20 + int64(o.Agents)*3*snapshot + int64(o.Delegations)*(logged/2+3*snapshot/2) + int64(o.Revocations)*(logged/4+3*snapshot/3)
}

// holds refuses a run that the machine can't hold. Where it does not tell, the run goes ahead.
func holds(what string, need, available int64) error {
	if available == 0 || need <= available {
		return nil
	}
	return fmt.Errorf("this run needs %s of %s, and %s are available; ask for fewer objects, or free some",
		gibibytes(need), what, gibibytes(available))
}

func gibibytes(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

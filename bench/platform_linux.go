package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// allowedCPUs lists the CPUs this process may run on.
func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("reading the CPU affinity: %w", err)
	}
	var cpus []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

func cpuSet(cpus []int) *unix.CPUSet {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	return &set
}

// startPinned starts the command on the given CPUs. A child inherits the affinity of the thread that forks it,
// so that not even its first instruction runs elsewhere and its runtime sees so many CPUs from the start.
func startPinned(cmd *exec.Cmd, cpus []int) error {
	if len(cpus) == 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("reading the CPU affinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, cpuSet(cpus)); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("pinning to CPUs %v: %w", cpus, err)
	}
	startErr := cmd.Start()
	if err := unix.SchedSetaffinity(0, &before); err != nil {
		// The thread stays locked, so that the runtime ends it with its goroutine rather than reuse it.
		return errors.Join(startErr, fmt.Errorf("unpinning: %w", err))
	}
	runtime.UnlockOSThread()
	return startErr
}

// ownThreads are the ids of this process's threads. Any of them may have ended since.
func ownThreads() (ids []int, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("listing threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return nil, fmt.Errorf("listing threads: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// pinSelf moves every thread of this process to the CPUs. Threads made later inherit that from their makers.
func pinSelf(cpus []int) error {
	set := cpuSet(cpus)
	// A thread may be made by one not moved yet; a second pass finds it.
	for range 2 {
		threads, err := ownThreads()
		if err != nil {
			return err
		}
		for _, id := range threads {
			if err := unix.SchedSetaffinity(id, set); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("pinning to CPUs %v: %w", cpus, err)
			}
		}
	}
	return nil
}

// mixedScheduling is that of a process whose threads are scheduled in several ways.
const mixedScheduling = "mixed"

// scheduling is the policy and priority of this process, by which its children start as well; empty where nobody tells.
func scheduling() string {
	threads, err := ownThreads()
	if err != nil {
		return ""
	}
	all := ""
	for _, id := range threads {
		now, err := unix.SchedGetAttr(id, 0)
		switch {
		case errors.Is(err, syscall.ESRCH): // has ended
		case err != nil:
			return ""
		case all == "":
			all = spellScheduling(now)
		case all != spellScheduling(now):
			return mixedScheduling
		}
	}
	return all
}

func spellScheduling(a *unix.SchedAttr) string {
	policies := map[uint32]string{
		unix.SCHED_NORMAL: "other", unix.SCHED_BATCH: "batch", unix.SCHED_IDLE: "idle", unix.SCHED_FIFO: "fifo", unix.SCHED_RR: "rr",
	}
	name, ok := policies[a.Policy]
	if !ok {
		name = fmt.Sprintf("policy %d,", a.Policy)
	}
	spelled := fmt.Sprintf("%s %d", name, a.Priority)
	if a.Nice != 0 {
		spelled += fmt.Sprintf(", nice %d", a.Nice)
	}
	return spelled
}

// threadCPU is the CPU time that the calling thread has used. The caller's goroutine is locked to its thread.
func threadCPU() time.Duration {
	var spent unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &spent); err != nil {
		return 0
	}
	return time.Duration(spent.Nano())
}

// freeDisk is what an ordinary user may still write to the file system of a folder; 0 where nobody tells.
func freeDisk(folder string) int64 {
	var stat unix.Statfs_t
	if err := unix.Statfs(folder, &stat); err != nil {
		return 0
	}
	return int64(stat.Bavail) * stat.Bsize
}

package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Values of DEPUTY_ROBUSTNESS: asked for, and set by the tests themselves once they are in their own namespaces.
const (
	robustnessWanted = "1"
	robustnessInside = "inside"
)

// moveInside runs the test binary once more in a network, mount and process namespace of its own, and returns its
// exit code. Whatever the tests make in there, bridges, namespaces, mounts, processes, is gone with the last of
// its processes, also where the tests are killed; the machine's own network is never touched.
func moveInside() (int, error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("this suite makes network namespaces, drops packets and mounts a small disk, all in a namespace of its own: run it as root, such as `sudo make robustness`")
	}
	for tool, from := range map[string]string{"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux"} {
		if _, err := exec.LookPath(tool); err != nil {
			return 1, fmt.Errorf("this suite needs the command %s; install %s", tool, from)
		}
	}
	path, err := workshop.Binary() // built out here: a build may want the network
	if err != nil {
		return 1, err
	}
	// The child dies with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	inner := exec.Command("/proc/self/exe", os.Args[1:]...)
	inner.Stdin, inner.Stdout, inner.Stderr = os.Stdin, os.Stdout, os.Stderr
	inner.Env = append(os.Environ(), "DEPUTY_ROBUSTNESS="+robustnessInside, "DEPUTY_BIN="+path)
	inner.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = inner.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("moving into namespaces: %w", err)
	}
	return 0, nil
}

// settleInside makes the new namespaces fit to live in.
func settleInside() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to ourselves: %w", err)
	}
	// `ip netns` binds its names below /run/netns, and they must not show outside.
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting a private /run: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return sh("ip", "link", "set", "lo", "up")
}

// sh runs a command that is expected to work.
func sh(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

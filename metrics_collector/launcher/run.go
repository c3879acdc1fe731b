// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	stopPoll  = 200 * time.Millisecond
	groupPoll = 20 * time.Millisecond
	// lingering: how long after SIGKILL the last of a group may take to vanish.
	lingering = 2 * time.Second

	reasonBytes = 1 << 10 // fits into a record

	prSetChildSubreaper = 36
	lastSignal          = 64
	firstRealTime       = 34 // the two below belong to C libraries
)

// notForwarded: SIGCHLD, SIGURG and SIGPIPE are about this process; SIGXFSZ is, too, where it says
// that the output has reached a file size limit. The rest of the gap cannot be caught.
var notForwarded = map[syscall.Signal]bool{
	syscall.SIGCHLD: true, syscall.SIGURG: true, syscall.SIGPIPE: true, syscall.SIGXFSZ: true,
	syscall.SIGKILL: true, syscall.SIGSTOP: true, 32: true, 33: true,
}

// run returns the exit code for the container: the program's own, 128+n for a signal, and 0 when
// it was stopped, as in Katib: a stop is no failure that a Job should repeat.
func run(options options, argv []string) int {
	shared := openShared(options)
	if reason, stopped := shared.stopWord(); stopped {
		// The container was started again (restartPolicy OnFailure) after it had been told to stop.
		shared.recordEnd(ending{Stopped: true, Reason: reason, Started: now(), Ended: now()})
		return 0
	}
	signals := listen()
	becomeReaper()
	launched, err := launch(argv, shared)
	if err != nil {
		return cannotRun(shared, argv[0], err)
	}
	return launched.attend(signals, options.grace)
}

// cannotRun says it as a shell would: 127 for what is not there, 126 for what will not run.
func cannotRun(shared *shared, name string, err error) int {
	code := exitCannotRun
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		code = exitNotFound
	}
	sentence := fmt.Sprintf("cannot run %q: %v", name, err)
	fmt.Fprintf(os.Stderr, "tunesmith-launcher: %s\n", sentence)
	shared.write([]byte("tunesmith-launcher: " + sentence + "\n"))
	shared.recordEnd(ending{Code: code, Error: sentence, Started: now(), Ended: now()})
	return code
}

// process is the program that trains, the leader of a process group of its own.
type process struct {
	pid     int
	started time.Time
	streams []*stream
	pumped  chan struct{}
	shared  *shared
}

func launch(argv []string, shared *shared) (*process, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return nil, err
	}
	out, outEnd, err := newStream(os.Stdout, shared)
	if err != nil {
		return nil, err
	}
	problems, problemsEnd, err := newStream(os.Stderr, shared)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, uintptr(outEnd), uintptr(problemsEnd)},
		Sys:   ownGroup(),
	})
	// The program holds these now; with ours open its pipes would never end.
	syscall.Close(outEnd)
	syscall.Close(problemsEnd)
	if err != nil {
		return nil, err
	}
	launched := &process{pid, started, []*stream{out, problems}, make(chan struct{}, 2), shared}
	for _, one := range launched.streams {
		go func(one *stream) {
			one.pump()
			launched.pumped <- struct{}{}
		}(one)
	}
	return launched, nil
}

// ownGroup makes the program a group leader; on a terminal the foreground one, or it could not
// read from there.
func ownGroup() *syscall.SysProcAttr {
	foreground, err := foregroundGroup(0)
	if err == nil && foreground == syscall.Getpgrp() {
		return &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	}
	return &syscall.SysProcAttr{Setpgid: true}
}

// attend passes signals on until the program has ended, and ends it when told to.
func (p *process) attend(signals <-chan os.Signal, grace time.Duration) int {
	ended := make(chan syscall.WaitStatus, 1)
	go reap(p.pid, ended)
	ticks := time.NewTicker(stopPoll)
	defer ticks.Stop()
	var stop *stopping
	for {
		select {
		case received := <-signals:
			// Its group is not meant: without a launcher, too, only the first process would get it.
			syscall.Kill(p.pid, received.(syscall.Signal))
		case status := <-ended:
			stop.finish(p.pid)
			return p.conclude(status, stop)
		case <-ticks.C:
			if stop == nil {
				stop = p.stopIfTold(grace)
			}
			stop.pursue(p.pid)
		}
	}
}

func (p *process) conclude(status syscall.WaitStatus, stop *stopping) int {
	for _, one := range p.streams {
		one.end()
	}
	for range p.streams {
		<-p.pumped
	}
	found := ending{Code: status.ExitStatus(), Started: stamp(p.started), Ended: now()}
	if status.Signaled() {
		found.Signal = int(status.Signal())
		found.Code = exitBySignal + found.Signal
	}
	if stop != nil {
		found.Stopped, found.Reason, found.Killed = true, stop.reason, stop.killed
	}
	p.shared.recordEnd(found)
	if stop != nil {
		return 0
	}
	return found.Code
}

// stopping is an end on request: SIGTERM to the group, SIGKILL when the grace period has passed.
type stopping struct {
	reason   string
	deadline time.Time
	killed   bool
}

func (p *process) stopIfTold(grace time.Duration) *stopping {
	reason, told := p.shared.stopWord()
	if !told {
		return nil
	}
	syscall.Kill(-p.pid, syscall.SIGTERM)
	syscall.Kill(-p.pid, syscall.SIGCONT) // or a stopped process would not hear of it
	return &stopping{reason: reason, deadline: time.Now().Add(grace)}
}

func (s *stopping) pursue(group int) {
	if s != nil && !time.Now().Before(s.deadline) {
		s.killed = true
		syscall.Kill(-group, syscall.SIGKILL)
	}
}

// finish gives the rest of the group its grace period after the leader has ended.
func (s *stopping) finish(group int) {
	if s == nil {
		return
	}
	for syscall.Kill(-group, 0) == nil && time.Since(s.deadline) < lingering {
		s.pursue(group)
		time.Sleep(groupPoll)
	}
}

// listen catches what can be forwarded, but for what was ignored from the start: a program that
// inherits that must go on to ignore it.
func listen() <-chan os.Signal {
	received := make(chan os.Signal, lastSignal)
	for number := syscall.Signal(1); number <= lastSignal; number++ {
		if !notForwarded[number] && !signal.Ignored(number) {
			signal.Notify(received, number)
		}
	}
	// Handled and dropped: left alone, they would end this process and so the program.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGXFSZ)
	return received
}

// becomeReaper: orphans of the program become ours also where this is not the first process.
func becomeReaper() {
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
}

func reap(program int, ended chan<- syscall.WaitStatus) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // no children at the moment; orphans may still come
			time.Sleep(groupPoll)
		case pid == program:
			ended <- status
		}
	}
}

func now() string { return stamp(time.Now()) }

func stamp(moment time.Time) string { return moment.UTC().Format(time.RFC3339Nano) }

// stopWord is the reason in the stop file, if there is one; an unreadable one counts, too.
func (s *shared) stopWord() (string, bool) {
	if s == nil {
		return "", false
	}
	if _, err := os.Lstat(s.path("stop")); err != nil {
		return "", false
	}
	text, _ := os.ReadFile(s.path("stop"))
	return strings.ToValidUTF8(string(bytes.TrimSpace(text[:least(len(text), reasonBytes)])), "?"), true
}

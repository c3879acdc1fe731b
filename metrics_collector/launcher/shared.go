// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// retryAfter a failed write the next one is tried: room may have been made.
	retryAfter = time.Second
	// unpunched: behind what the sidecar has taken this much stays, for it looks back.
	unpunched = 1 << 20
	// punchEvery so many bytes written, what was taken is given back to the disk.
	punchEvery = 16 << 20

	keepSize  = 1
	punchHole = 2
)

// shared is the directory that the sidecar sees. Nothing that fails here may hurt the program: its
// methods return no errors, and a nil one does nothing.
type shared struct {
	dir     string
	limit   int64
	exit    *record
	problem *record

	lock      sync.Mutex
	file      *os.File
	size      int64
	punched   int64 // no blocks are left below
	nextPunch int64
	midLine   bool // the file does not end in the end of a line
	torn      bool // and that line will not be continued
	lost      int64
	why       error
	retryAt   time.Time
}

// ending is what exit.json says. Code is the program's, whatever the container's then is.
type ending struct {
	Code    int    `json:"code"`
	Signal  int    `json:"signal"`
	Started string `json:"started"`
	Ended   string `json:"ended"`
	Stopped bool   `json:"stopped"`
	Killed  bool   `json:"killed,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Error   string `json:"error,omitempty"`
}

// openShared continues the output of an earlier run in the same pod.
func openShared(options options) *shared {
	found := &shared{dir: options.dir, limit: options.limit}
	os.Remove(found.path("exit.json"))
	flags := os.O_RDWR | os.O_APPEND | os.O_CREATE | syscall.O_NOFOLLOW
	file, err := os.OpenFile(found.path("output"), flags, everyoneReads)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tunesmith-launcher: no metrics are collected: %v\n", err)
		return nil
	}
	file.Chmod(everyoneReads) // whatever the umask: another user reads it
	// Held for as long as this process lives: so the sidecar knows that the program may yet write.
	syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	found.file = file
	if info, err := file.Stat(); err == nil {
		found.size = info.Size()
		found.midLine = endsWithinLine(file, found.size)
		found.torn = found.midLine
	}
	found.exit = reserve(found.dir, "exit.json")
	found.problem = reserve(found.dir, "problem")
	found.makeReportFile()
	return found
}

func (s *shared) path(name string) string { return filepath.Join(s.dir, name) }

// makeReportFile: tunesmith.report appends to it, as whatever user the program becomes.
func (s *shared) makeReportFile() {
	path := os.Getenv("TUNESMITH_METRICS_FILE")
	if filepath.Dir(path) != filepath.Clean(s.dir) {
		return
	}
	flags := os.O_WRONLY | os.O_CREATE | syscall.O_NOFOLLOW
	if file, err := os.OpenFile(path, flags, everyoneReads); err == nil {
		file.Chmod(everyoneWrites)
		file.Close()
	}
}

func endsWithinLine(file *os.File, size int64) bool {
	last := make([]byte, 1)
	if size == 0 {
		return false
	}
	_, err := file.ReadAt(last, size-1)
	return err == nil && !endsLine(last)
}

func endsLine(data []byte) bool {
	last := data[len(data)-1]
	return last == '\n' || last == '\r'
}

func (s *shared) write(data []byte) {
	if s == nil || len(data) == 0 {
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.lost > 0 && time.Now().Before(s.retryAt) {
		s.lost += int64(len(data))
		return
	}
	if !s.hasRoom(int64(len(data)) + 1) {
		s.lose(len(data), fmt.Errorf("more than %d bytes wait to be collected", s.limit))
		return
	}
	if s.torn {
		if _, err := s.put([]byte("\n")); err != nil {
			s.lose(len(data), err)
			return
		}
		s.torn = false
	}
	if count, err := s.put(data); err != nil {
		s.torn = s.midLine
		s.lose(len(data)-count, err)
	}
}

// put returns how much of the data is in the file. Of a line that the disk has room for only in
// part nothing is, or a number cut short would pass for another.
func (s *shared) put(data []byte) (int, error) {
	count, err := s.file.Write(data)
	if whole := lastBreak(data[:count]) + 1; err != nil && whole < count {
		if s.file.Truncate(s.size+int64(whole)) == nil {
			count = whole
		}
	}
	if count > 0 {
		s.size += int64(count)
		s.midLine = !endsLine(data[:count])
	}
	return count, err
}

func (s *shared) lose(count int, why error) {
	s.lost += int64(count)
	s.why = why
	s.retryAt = time.Now().Add(retryAfter)
	s.sayProblem()
}

func (s *shared) sayProblem() {
	s.problem.put(fmt.Sprintf(
		"%d bytes of output were not collected: %v. The program itself, and the log of its "+
			"container, are not concerned.\n", s.lost, s.why))
}

// hasRoom keeps the blocks of the file below the limit, by making holes where the sidecar has
// taken what was there. Offsets stay as they are.
func (s *shared) hasRoom(count int64) bool {
	fits := func() bool { return s.size-s.punched+count <= s.limit }
	if s.size >= s.nextPunch || !fits() {
		s.nextPunch = s.size + punchEvery
		s.punch()
	}
	return fits()
}

func (s *shared) punch() {
	to := (s.taken() - unpunched) / unpunched * unpunched
	if to <= s.punched {
		return
	}
	err := syscall.Fallocate(
		int(s.file.Fd()), keepSize|punchHole, s.punched, to-s.punched)
	if err == nil {
		s.punched = to
	}
}

// taken is how much of the output the sidecar has no more use for.
func (s *shared) taken() int64 {
	text, err := os.ReadFile(s.path("taken"))
	if err != nil {
		return 0
	}
	offset, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || offset > s.size {
		return 0
	}
	return offset
}

// recordEnd comes last.
func (s *shared) recordEnd(found ending) {
	if s == nil {
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.lost > 0 {
		s.sayProblem()
	}
	s.file.Close()
	s.exit.putJSON(found)
}

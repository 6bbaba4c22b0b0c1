package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// How often a log that is followed is looked at.
const look = 100 * time.Millisecond

// container is one whose log is asked for.
type container struct {
	name   string
	folder string
}

// options are those of a kubelet that mean something for lines without a time.
type options struct {
	follow   bool
	previous bool
	// None: all.
	tail  *int64
	limit int64
}

// serve answers with the log of a run. An error comes before the first byte of the answer.
func (c container) serve(w http.ResponseWriter, r *http.Request) error {
	options, err := parse(r.URL.Query())
	if err != nil {
		return err
	}
	state, err := c.state()
	if err != nil {
		return err
	}
	run := state.Run
	if options.previous {
		if state.Previous == nil {
			return refusef(http.StatusBadRequest, "the container %s has not ended yet, so there is no log of an earlier run", c.name)
		}
		run = *state.Previous
	}
	file, err := os.Open(filepath.Join(c.folder, fmt.Sprintf("%d.log", run)))
	if err != nil {
		return fmt.Errorf("opening the log of the container %s: %w", c.name, err)
	}
	defer file.Close()
	if options.tail != nil {
		if err := skip(file, *options.tail); err != nil {
			return fmt.Errorf("looking for the last %d lines of the container %s: %w", *options.tail, c.name, err)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.write(w, r, io.LimitedReader{R: file, N: options.limit}, run, options.follow)
	return nil
}

// write goes on until the log's end; one that is followed ends when its run does and all that it said is written.
func (c container) write(w http.ResponseWriter, r *http.Request, log io.LimitedReader, run int, follow bool) {
	flush := http.NewResponseController(w)
	for {
		// It is asked before the file is read: what was said until then is in what is read.
		state, err := c.state()
		over := !follow || err != nil || state.Run != run || !state.Running
		// A reader who has gone, or a log that can't be read: there is nobody left to tell, or nothing.
		if _, err := io.Copy(w, &log); err != nil || over || log.N == 0 {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(look):
		}
	}
}

func parse(query url.Values) (options, error) {
	parsed := options{limit: math.MaxInt64}
	for name := range query {
		var err error
		value := query.Get(name)
		switch name {
		case "follow":
			parsed.follow, err = strconv.ParseBool(value)
		case "previous":
			parsed.previous, err = strconv.ParseBool(value)
		case "tailLines":
			var lines uint64
			lines, err = strconv.ParseUint(value, 10, 63)
			tail := int64(lines)
			parsed.tail = &tail
		case "limitBytes":
			var bytes uint64
			bytes, err = strconv.ParseUint(value, 10, 63)
			parsed.limit = int64(bytes)
		case "stream":
			if value != "All" {
				return parsed, refusef(http.StatusBadRequest, "the lab keeps what a container writes to both of its outputs in one log: ask for it without stream=%s", value)
			}
		case "timestamps", "sinceSeconds", "sinceTime":
			return parsed, refusef(http.StatusBadRequest, "lines of the lab's logs have no time: ask without %s; tailLines says how many to show", name)
		default:
			return parsed, refusef(http.StatusBadRequest, "the lab's logs know no option %s", name)
		}
		if err != nil {
			return parsed, refusef(http.StatusBadRequest, "%s=%s: %v", name, value, err)
		}
	}
	return parsed, nil
}

// skip goes to where the last lines of a file begin. It reads from the end: logs are long, and few lines are asked for.
func skip(file *os.File, lines int64) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil || lines == 0 {
		return err
	}
	block := make([]byte, 32<<10)
	for end := size; end > 0; {
		start := max(0, end-int64(len(block)))
		part := block[:end-start]
		if _, err := file.ReadAt(part, start); err != nil {
			return err
		}
		for i := len(part) - 1; i >= 0; i-- {
			at := start + int64(i)
			// The end of the last line has no line behind it.
			if part[i] != '\n' || at == size-1 {
				continue
			}
			if lines--; lines == 0 {
				_, err := file.Seek(at+1, io.SeekStart)
				return err
			}
		}
		end = start
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

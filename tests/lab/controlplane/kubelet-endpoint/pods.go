package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
)

// pods is the folder in which the kubelet tells of its pods, each in NAMESPACE_POD.json: neither name can have a "_".
type pods string

// pod is what the kubelet tells of one.
type pod struct {
	UID string `json:"uid"`
	IP  string `json:"ip"`
	// The folder of its containers' logs: CONTAINER/state.json, and CONTAINER/RUN.log.
	Logs string `json:"logs"`
}

// state is what the kubelet tells of a container.
type state struct {
	// The run that is, or that was the last one.
	Run     int  `json:"run"`
	Running bool `json:"running"`
	// The run that the pod's status calls the last state.
	Previous *int `json:"previous"`
}

func (p pods) named(namespace, name string) (pod, error) {
	var found pod
	err := read(filepath.Join(string(p), namespace+"_"+name+".json"), &found)
	if errors.Is(err, fs.ErrNotExist) {
		return found, refusef(http.StatusNotFound, "the lab's kubelet runs no pod %s in the namespace %s", name, namespace)
	}
	return found, err
}

func (p pod) container(name string) container {
	return container{name, filepath.Join(p.Logs, name)}
}

// state is that of a container that has begun.
func (c container) state() (state, error) {
	var found state
	err := read(filepath.Join(c.folder, "state.json"), &found)
	if errors.Is(err, fs.ErrNotExist) {
		return found, refusef(http.StatusBadRequest, "the container %s waits to start", c.name)
	}
	return found, err
}

// read takes a file that its writer only ever replaces as a whole.
func read(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

// Evaluates GJSON paths with tidwall/gjson: the reference of test_gjson_against_go.py.
//
// Reads lines {"json": "...", "path": "...", "katib": false} and writes for each a line
// {"exists": true, "type": "JSON", "raw": "[1]"}. With "katib" it answers as the gjson release that
// Katib is built with.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"

	"github.com/tidwall/gjson"
	katib "katib.invalid/gjson"
)

type question struct {
	JSON  string `json:"json"`
	Path  string `json:"path"`
	Katib bool   `json:"katib"`
}

type answer struct {
	Exists bool   `json:"exists"`
	Type   string `json:"type"`
	Raw    string `json:"raw"`
}

func evaluate(q question) answer {
	if q.Katib {
		r := katib.Get(q.JSON, q.Path)
		return answer{r.Exists(), r.Type.String(), r.Raw}
	}
	r := gjson.Get(q.JSON, q.Path)
	return answer{r.Exists(), r.Type.String(), r.Raw}
}

func main() {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout) // unbuffered: the asker waits for each answer
	out.SetEscapeHTML(false)
	for in.More() {
		var q question
		if err := in.Decode(&q); err != nil {
			log.Fatalf("question: %v", err)
		}
		if err := out.Encode(evaluate(q)); err != nil {
			log.Fatalf("answer: %v", err)
		}
	}
}

// What Go's net/http makes of each case: JSON lines in, JSON lines out, in the form of parsers.py.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
)

type oneCase struct {
	Role   string `json:"role"`
	Input  []byte `json:"input_b64"`
	Method string `json:"method"`
}

type answer struct {
	Bodies []string `json:"bodies_b64"`
	End    string   `json:"end"`
	Rest   []byte   `json:"rest_b64"`
}

func (a *answer) add(body []byte) {
	a.Bodies = append(a.Bodies, base64.StdEncoding.EncodeToString(body))
}

func requests(input []byte) answer {
	all := answer{Bodies: []string{}, End: "clean", Rest: []byte{}}
	reader := bufio.NewReaderSize(bytes.NewReader(input), 1<<16)
	for {
		request, err := http.ReadRequest(reader)
		if errors.Is(err, io.EOF) {
			return all
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			all.End = "open"
			return all
		}
		if err != nil {
			all.End = "error"
			return all
		}
		body, err := io.ReadAll(request.Body)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			all.End, all.Rest = "open", body
			return all
		}
		if err != nil {
			all.End = "error"
			return all
		}
		all.add(body)
		if request.Close || request.Method == "CONNECT" {
			return all
		}
	}
}

func responses(input []byte, method string) answer {
	all := answer{Bodies: []string{}, End: "clean", Rest: []byte{}}
	reader := bufio.NewReaderSize(bytes.NewReader(input), 1<<16)
	for {
		response, err := http.ReadResponse(reader, &http.Request{Method: method})
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			all.End = "open"
			return all
		}
		if err != nil {
			all.End = "error"
			return all
		}
		if response.StatusCode >= 100 && response.StatusCode < 200 && response.StatusCode != 101 {
			all.add(nil)
			continue
		}
		if response.StatusCode == 101 || (method == "CONNECT" && response.StatusCode/100 == 2) {
			all.add(nil)
			return all
		}
		body, err := io.ReadAll(response.Body)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			all.End, all.Rest = "open", body
			return all
		}
		if err != nil {
			all.End = "error"
			return all
		}
		all.add(body)
		return all
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for lines.Scan() {
		var one oneCase
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			panic(err)
		}
		var said answer
		if one.Role == "request" {
			said = requests(one.Input)
		} else {
			said = responses(one.Input, one.Method)
		}
		if err := encoder.Encode(map[string]answer{"go": said}); err != nil {
			panic(err)
		}
	}
}

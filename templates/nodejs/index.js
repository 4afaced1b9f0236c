"use strict";

// The function NAME: tinyFaaS calls it for every request to it.
//
// req: .body (text), .rawBody (Buffer), .headers, .method, .path (below the
//      function's name), .query
// res: .send(), .json(), .status(), .set(), .type(), .write(), .end(), as in Express
//
// It may be async. What console.log prints goes to the log: tinyfaas logs -f NAME
module.exports = (req, res) => {
  console.log("called:", req.method, req.path);
  if (req.path === "/json") {
    res.json({ hello: req.body });
    return;
  }
  res.send(`hello ${req.body || "world"}\n`);
};

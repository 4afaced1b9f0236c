const BEGINNING = { body: Buffer.alloc(1280, "large-update. "), type: "text/plain" };
let state = BEGINNING;

module.exports = (req, res) => {
  switch (req.method) {
    case "GET":
      res.set("Content-Type", state.type).end(state.body);
      break;
    case "PUT":
      state = { body: req.rawBody, type: req.headers["content-type"] || "application/octet-stream" };
      res.status(204).end();
      break;
    case "DELETE":
      state = BEGINNING;
      res.status(204).end();
      break;
    default:
      res.status(405).send(`there is no ${req.method} here`);
  }
};

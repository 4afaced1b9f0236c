const FORMATS = {
  "text/plain": "status: works\n",
  "application/link-format": '</multi-format>;title="works"',
  "application/xml": "<status>works</status>",
  "application/json": '{"status":"works"}',
};

module.exports = (req, res) => {
  const wanted = (req.headers.accept || "*/*").split(";")[0].trim();
  const type = wanted === "*/*" ? "text/plain" : wanted;
  if (!(type in FORMATS)) {
    res.status(406).send(`there is no ${type}, only ${Object.keys(FORMATS).join(", ")}`);
    return;
  }
  res.set("Content-Type", type).end(FORMATS[type]);
};

const TAKES_MS = 1500;

module.exports = (req, res) => {
  setTimeout(() => res.type("text/plain").send("this reply comes apart"), TAKES_MS);
};

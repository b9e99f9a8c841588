-- A database of jobs as a server with version 2 of the schema wrote it.  Nothing here changes:
-- such databases exist.
BEGIN TRANSACTION;
CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        client TEXT NOT NULL,
        agent TEXT NOT NULL,
        task TEXT NOT NULL,
        created REAL NOT NULL,
        priority INTEGER NOT NULL,
        timeout REAL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        ended REAL,
        callback TEXT,
        tries INTEGER NOT NULL DEFAULT 0,
        due REAL,
        asked TEXT NOT NULL,
        result TEXT
    );
INSERT INTO "jobs" VALUES(1,'done','ann','kiro','generate-story',1000.0,5,NULL,'done',1,1005.0,NULL,0,NULL,'{"idea":"An idea"}','{"value":{"title":"x"},"worker":"worker1","attempts":1,"repairs":0,"seconds":2.5}');
INSERT INTO "jobs" VALUES(2,'failed','ann','kiro','generate-story',1000.0,9,1.5,'failed',1,1006.0,'https://hooks.example.com/',0,1006.0,'{"idea":"An idea"}','{"code":"answer_unfit","message":"It does not fit","retry_after":null,"details":{"reasons":["no title"]}}');
INSERT INTO "jobs" VALUES(3,'cancelled','bob','kiro','generate-story',1000.0,5,NULL,'cancelled',0,1007.0,NULL,0,NULL,'{"idea":"An idea"}',NULL);
INSERT INTO "jobs" VALUES(4,'queued','ann','kiro','generate-story',1000.0,5,NULL,'queued',0,NULL,NULL,0,NULL,'{"idea":"An idea"}',NULL);
INSERT INTO "jobs" VALUES(5,'running','ann','kiro','generate-story',1000.0,5,NULL,'running',1,NULL,NULL,0,NULL,'{"idea":"An idea"}',NULL);
CREATE TABLE keys (
        client TEXT NOT NULL,
        task TEXT NOT NULL,
        word TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        job TEXT REFERENCES jobs (id) ON DELETE CASCADE,
        said TEXT,
        kept REAL,
        PRIMARY KEY (client, task, word)
    ) WITHOUT ROWID;
INSERT INTO "keys" VALUES('ann','generate-story','k1','print','done',NULL,NULL);
INSERT INTO "keys" VALUES('ann','generate-story','k2','print',NULL,'{"status":200,"body":{"title":"y"},"headers":{"Worker":"worker1"}}',1008.0);
CREATE INDEX jobs_unfinished ON jobs (agent, number, state)
        WHERE state IN ('queued', 'running');
CREATE INDEX jobs_client ON jobs (client, number);
CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL AND due IS NULL;
CREATE INDEX jobs_due ON jobs (due) WHERE due IS NOT NULL;
CREATE INDEX keys_job ON keys (job) WHERE job IS NOT NULL;
CREATE INDEX keys_kept ON keys (kept) WHERE kept IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('jobs',5);
COMMIT;
PRAGMA user_version = 2;
